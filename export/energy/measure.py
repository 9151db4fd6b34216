"""Joules of this machine's processor, from its own counters (RAPL, Linux powercap)."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.program import ExportError
from export.tflite.interpreters import Network

POWERCAP = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:[0-9]*"  # AMD's processors too; intel-rapl:0:1 are parts of intel-rapl:0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the processor packages drew while a network ran.

    Attributes:
        images: inferences, one image each.
        seconds: how long they took.
        joules: what the packages drew meanwhile, everything else on the machine included.
        idle_watts: what they drew just before, without the network.
    """

    images: int
    seconds: float
    joules: float
    idle_watts: float

    @property
    def joules_per_image(self) -> float:
        """Everything that was drawn, shared among the images."""
        return self.joules / self.images

    @property
    def joules_per_image_above_idle(self) -> float:
        """The same less what the machine draws without the network."""
        return (self.joules - self.idle_watts * self.seconds) / self.images


class EnergyCounters:
    """The energy counters of all processor packages.

    Args:
        root: folder of the counters.

    Raises:
        ExportError: there is no counter, or it may not be read.
    """

    def __init__(self, root: Path = POWERCAP):
        folders = [f for f in sorted(root.glob(PACKAGES)) if f.name.count(":") == 1]
        if not folders:
            raise ExportError(
                "Joules can be measured only where Linux shows the processor's energy counters. "
                f"Received: no {PACKAGES} in '{root}'"
            )
        try:
            self._ranges = {f: int((f / "max_energy_range_uj").read_text()) for f in folders}
            self.read()
        except (OSError, ValueError) as error:
            raise ExportError(
                "The processor's energy counters must be readable, on most systems by root only. "
                f"Received: {error}"
            ) from error

    def read(self) -> dict[Path, int]:
        """Microjoules on every package's counter, which runs from 0 to its range and again."""
        return {folder: int((folder / "energy_uj").read_text()) for folder in self._ranges}

    def joules_since(self, before: Mapping[Path, int]) -> float:
        """What all packages drew since `before`, if no counter went round more than once."""
        now = self.read()
        return 1e-6 * sum(
            now[f] - before[f] + (size + 1 if now[f] < before[f] else 0)
            for f, size in self._ranges.items()
        )


def measure(run: Callable[[], Any], counters: EnergyCounters, seconds: float = 3.0) -> Measurement:
    """Calls `run` again and again for some seconds, after as long without it.

    Args:
        run: one inference of one image.
        counters: where the joules are read.
        seconds: how long.

    Returns:
        `Measurement`.
    """
    run()  # the first call may compile
    start, before = time.perf_counter(), counters.read()
    time.sleep(seconds)
    idle_watts = counters.joules_since(before) / (time.perf_counter() - start)
    images, start, before = 0, time.perf_counter(), counters.read()
    while time.perf_counter() - start < seconds:
        run()
        images += 1
    joules = counters.joules_since(before)
    return Measurement(images, time.perf_counter() - start, joules, idle_watts)


def inference(model: keras.Model) -> Callable[[], Any]:
    """One inference of one random image, as a compiled graph, float32."""
    shape = (1, *model.inputs[0].shape[1:])
    image = tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)
    graph = tf.function(lambda: model(image, training=False), autograph=False)
    return lambda: [tensor.numpy() for tensor in keras.tree.flatten(graph())]


def tflite_inference(data: bytes, delegate: str | os.PathLike | None) -> Callable[[], Any]:
    """One inference of one random image by TFLite's interpreter, one thread.

    Raises:
        ExportError: as `export.tflite.Network`.
    """
    network = Network(data, delegate)
    shape = [max(size, 1) for size in network.input["shape"]]
    network.set_input(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    return network.invoke
