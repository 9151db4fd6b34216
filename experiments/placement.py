"""Where the batches of a run are made: on the host, or on the device that trains."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from experiments.errors import RunError
from pkkd_tf.data import ImageDataset
from pkkd_tf.data.resident import ResidentDataset

PLACEMENTS = ("auto", "host", "device")


def place(
    data: ImageDataset, options: dict[str, Any], strategy: tf.distribute.Strategy
) -> tuple[ImageDataset | ResidentDataset, Callable[[Any], Any] | None]:
    """What yields a step's batch, and what `PKKD.compile` is to make of it.

    `auto` is `device` where one GPU trains on images in memory, else `host`. The batches are the
    same bit for bit. Without a GPU `device` is the processor.

    Raises:
        RunError: `device` where batches can not be made there.
    """
    asked, obstacle = options["data_placement"], _obstacle(data, options, strategy)
    gpus = tf.config.list_logical_devices("GPU")
    if asked == "host" or (asked == "auto" and (obstacle or not gpus)):
        return data, None
    if obstacle:
        raise RunError(
            "--data_placement=device needs images in memory (digits, CIFAR), one device that "
            "trains, and no randaugment, which works image by image. "
            f"Received: {obstacle}"
        )
    resident = data.on_device(gpus[0].name if gpus else "CPU:0")
    return resident, resident.prepare_batch


def _obstacle(data: ImageDataset, options: dict[str, Any], strategy: tf.distribute.Strategy) -> str:
    """Why batches can not be made on the device; empty if they can."""
    if not hasattr(data, "on_device"):
        return f"data={data.name}"
    if strategy is not tf.distribute.get_strategy():
        return f"strategy={type(strategy).__name__}"
    return "augmentation=randaugment" if "randaugment" in options["augmentation"] else ""
