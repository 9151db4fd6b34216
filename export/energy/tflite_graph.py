"""What counting needs to know of a `.tflite` graph: sizes of one image, adders in builtin form."""

import math
from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph

# Nothing moves: another shape of the same numbers.
VIEWS = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
BITS = {np.dtype(np.float32): 32, np.dtype(np.int8): 8}


def sizes_of_one_image(graph: Graph) -> dict[int, int]:
    """How many numbers of one image every computed tensor holds.

    The first axis may be the images alone or, after a change of shape, images times something.
    """
    if len(graph.subgraph.inputs) != 1:
        raise ExportError(
            "A file whose operations are counted must map one batch of images. "
            f"Received: {len(graph.subgraph.inputs)} inputs"
        )
    (images,) = graph.subgraph.inputs
    batch = max(graph.shape(images)[0], 1)
    sizes, rows = {int(images): _row(graph, images)}, {int(images): 1}
    for operator in graph.operators:
        known = [int(t) for t in operator.inputs if t in sizes]
        for tensor in map(int, operator.outputs):
            if not known or graph.dtype(tensor) not in BITS:
                continue
            shape, name = graph.shape(tensor), graph.name(operator)
            if name in VIEWS:
                sizes[tensor] = sizes[known[0]]
            elif name == "FULLY_CONNECTED":  # whose input may have axes of unknown sizes
                outputs, terms = graph.shape(operator.inputs[1])
                sizes[tensor] = sizes[known[0]] // terms * outputs
            else:
                counts = [rows[t] for t in known if t in rows]
                if shape[0] <= 0 and not counts:
                    raise _unknown(graph, known[0])
                first = shape[0] // batch if shape[0] > 0 else max(counts)
                sizes[tensor] = first * _row(graph, tensor)
            if min(shape[1:], default=1) > 0:
                rows[tensor] = sizes[tensor] // math.prod(shape[1:])
    return sizes


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


class AdderParts:
    """Finds SUB, ABS, SUM in a row, changes of shape between them aside."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.makers = {int(t): o for o in graph.operators for t in o.outputs}
        self.readers: dict[int, list[Any]] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                self.readers.setdefault(int(tensor), []).append(operator)

    def difference(self, operator: Any) -> int | None:
        """What the SUB writes, if the operator is the SUB or SUM of such a row."""
        name = self.graph.name(operator)
        if name == "SUB":
            magnitude = self._reader(operator, "ABS")
            summed = None if magnitude is None else self._reader(magnitude, "SUM")
            return None if summed is None else int(operator.outputs[0])
        magnitude = self._maker(operator, "ABS") if name == "SUM" else None
        subtraction = None if magnitude is None else self._maker(magnitude, "SUB")
        return None if subtraction is None else int(subtraction.outputs[0])

    def _reader(self, operator: Any, name: str) -> Any | None:
        """The one operator that reads the output, if it has this name."""
        readers = self.readers.get(int(operator.outputs[0]), [])
        found = self.graph.name(readers[0]) if len(readers) == 1 else None
        if found in VIEWS:
            return self._reader(readers[0], name)
        return readers[0] if found == name else None

    def _maker(self, operator: Any, name: str) -> Any | None:
        """The operator that makes the first input, if it has this name."""
        maker = self.makers.get(int(operator.inputs[0]))
        found = None if maker is None else self.graph.name(maker)
        if found in VIEWS:
            return self._maker(maker, name)
        return maker if found == name else None


def dtype_of(graph: Graph, tensor: int) -> np.dtype:
    """The type of a tensor; raises `ExportError` for one that is not handled."""
    dtype = graph.dtype(tensor)
    if dtype is None:
        raise ExportError(
            "Tensors must be float32, int8, int32, int64 or bool to be counted. "
            f"Received: tensor={graph.tensor_name(tensor)!r} of another type"
        )
    return dtype
