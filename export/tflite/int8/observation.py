"""What the tensors inside a float network hold, seen on calibration images."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph
from export.tflite.int8.summary import Summary
from export.tflite.interpreters import Network

BATCH_NUMBERS = 1 << 27  # of all tensors of a batch: half a gigabyte
KEPT_NUMBERS = 1 << 24  # of each tensor that is kept
Values = dict[int, np.ndarray]


def activations(graph: Graph) -> list[int]:
    """The computed tensors of a network, its input first; integers of shapes are left out."""
    computed = [t for o in graph.operators for t in o.outputs]
    tensors = [int(t) for t in [*graph.subgraph.inputs, *computed]]
    return [t for t in tensors if graph.dtype(t) in (np.float32, np.int8)]


class Probe:
    """A network that hands out every tensor it computes.

    Args:
        data: bytes of a `.tflite` file, float32 or int8.
        delegate: library of the delegate, or None.
        num_threads: of the interpreter.
    """

    def __init__(self, data: bytes, delegate: str | os.PathLike | None, num_threads: int = 2):
        self.graph = graph = Graph(data)
        self.tensors = activations(graph)
        graph.subgraph.outputs = [t for t in self.tensors if t not in graph.subgraph.inputs]
        graph.model.signatureDefs = None
        self._network = Network(graph.to_bytes(), delegate, num_threads)

    def __call__(self, images: np.ndarray) -> Values:
        """The numbers of every tensor for a batch, by the number of the tensor."""
        self._network.set_input(images)
        self._network.invoke()
        return {t: self._network.interpreter.get_tensor(t) for t in self.tensors}


class Observation:
    """Ranges of all tensors over all images, and some of them whole.

    Args:
        data: bytes of a float `.tflite` file.
        images: float32 array (N, H, W, C), as the network takes them.
        delegate: library of the delegate.
        kept: tensors of which the first images' numbers are kept, and how many images, by the
            numbers of some of them.

    Raises:
        ExportError: a number is not finite.

    Attributes:
        summaries: of all numbers of each tensor.
        samples: numbers of each kept tensor.
    """

    def __init__(
        self,
        data: bytes,
        images: np.ndarray,
        delegate: Any,
        kept: Mapping[int, Callable[[np.ndarray], int]],
    ):
        probe = Probe(data, delegate)
        self.summaries = dict.fromkeys(probe.tensors, Summary())
        parts: dict[int, list[np.ndarray]] = {t: [] for t in kept}
        numbers = sum(value.size for value in probe(images[:1]).values())
        batch = max(1, min(64, BATCH_NUMBERS // numbers))
        for first in range(0, len(images), batch):
            values = probe(images[first : first + batch])
            for tensor, value in values.items():
                _check_finite(probe.graph.tensor_name(tensor), value)
                self.summaries[tensor] = self.summaries[tensor].joined(value)
                if tensor in kept and sum(p.size for p in parts[tensor]) < KEPT_NUMBERS:
                    missing = kept[tensor](value) - sum(map(len, parts[tensor]))
                    parts[tensor].append(value[: max(0, missing)].copy())
        self.samples = {t: np.concatenate(values) for t, values in parts.items()}


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ExportError(
            "An int8 network must compute finite numbers on the calibration images. "
            f"Received: tensor={name}, not finite={np.mean(~np.isfinite(values)):.1%}"
        )
