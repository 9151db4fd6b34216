"""What counting needs to know of a `.tflite` graph: types of tensors, sizes of one image."""

import math
from typing import Any

import numpy as np

from export.energy.adder_parts import VIEWS
from export.program import ExportError
from export.tflite.graph import Graph

BITS = {np.dtype(np.float32): 32, np.dtype(np.int8): 8}


def sizes_of_one_image(graph: Graph) -> dict[int, int]:
    """How many numbers of one image every computed tensor holds.

    The first axis may be the images alone or, after a change of shape, images times something.
    """
    sizes = _Sizes(graph)
    for operator in graph.operators:
        sizes.add_outputs(operator)
    return sizes.sizes


class _Sizes:
    """Numbers and rows of one image in the tensors that are known so far, the images first."""

    def __init__(self, graph: Graph):
        if len(graph.subgraph.inputs) != 1:
            raise ExportError(
                "A file whose operations are counted must map one batch of images. "
                f"Received: {len(graph.subgraph.inputs)} inputs"
            )
        images = int(graph.subgraph.inputs[0])
        self.graph, self.batch = graph, max(graph.shape(images)[0], 1)
        self.sizes, self.rows = {images: _row(graph, images)}, {images: 1}

    def add_outputs(self, operator: Any) -> None:
        """Adds the numbers that an operator computes from known ones; not sizes of shapes."""
        known = [int(t) for t in operator.inputs if t in self.sizes]
        for tensor in map(int, operator.outputs):
            if known and self.graph.dtype(tensor) in BITS:
                self.sizes[tensor] = self._size(operator, tensor, known)
                self._add_rows(tensor)

    def _size(self, operator: Any, tensor: int, known: list[int]) -> int:
        name = self.graph.name(operator)
        if name in VIEWS:
            return self.sizes[known[0]]
        if name == "FULLY_CONNECTED":  # whose input may have axes of unknown sizes
            outputs, terms = self.graph.shape(operator.inputs[1])
            return self.sizes[known[0]] // terms * outputs
        return self._first_axis(tensor, known) * _row(self.graph, tensor)

    def _first_axis(self, tensor: int, known: list[int]) -> int:
        """How many rows one image has: as the file says, or as many as the inputs."""
        first = self.graph.shape(tensor)[0]
        if first > 0:
            return first // self.batch
        counts = [self.rows[t] for t in known if t in self.rows]
        if not counts:
            raise _unknown(self.graph, known[0])
        return max(counts)

    def _add_rows(self, tensor: int) -> None:
        sizes = self.graph.shape(tensor)[1:]
        if min(sizes, default=1) > 0:
            self.rows[tensor] = self.sizes[tensor] // math.prod(sizes)


def _row(graph: Graph, tensor: int) -> int:
    shape = graph.shape(tensor)
    if any(size < 0 for size in shape[1:]):
        raise _unknown(graph, tensor)
    return math.prod(shape[1:])


def _unknown(graph: Graph, tensor: int) -> ExportError:
    return ExportError(
        "Operations can be counted for a known image size only: export the network for one. "
        f"Received: tensor={graph.tensor_name(tensor)!r}, shape={graph.shape(tensor)}"
    )


def dtype_of(graph: Graph, tensor: int) -> np.dtype:
    """The type of a tensor; raises `ExportError` for one that is not handled."""
    dtype = graph.dtype(tensor)
    if dtype is None:
        raise ExportError(
            "Tensors must be float32, int8, int32, int64 or bool to be counted. "
            f"Received: tensor={graph.tensor_name(tensor)!r} of another type"
        )
    return dtype
