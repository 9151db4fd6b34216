"""Strategy, precision and determinism of a run, set before anything is built."""

from typing import Any

import keras
import tensorflow as tf


def set_up(options: dict[str, Any]) -> tf.distribute.Strategy:
    """Seeds everything, sets the dtype policy and returns the distribution strategy."""
    keras.utils.set_random_seed(options["seed"])
    if options["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_dtype_policy(options["precision"])
    strategy = make_strategy(options["strategy"])
    replicas = strategy.num_replicas_in_sync
    if options["batch_size"] % replicas:
        raise ValueError(
            "The global batch size must be a multiple of the number of replicas. "
            f"Received: batch_size={options['batch_size']}, replicas={replicas}"
        )
    return strategy


def make_strategy(name: str) -> tf.distribute.Strategy:
    """`auto` is `mirrored` where there is more than one GPU, else one device."""
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "one_device"
    if name == "mirrored":
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()
