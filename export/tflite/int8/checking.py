"""An int8 file, operator by operator, against the integer reference."""

import os

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph
from export.tflite.int8 import reference
from export.tflite.int8.observation import Probe
from export.tflite.int8.ties import tied_tensors
from export.tflite.responses import CUSTOM_OPERATOR


def check_file(data: bytes, delegate: str | os.PathLike | None, images: np.ndarray) -> None:
    """Compares every operator that the reference knows with it, on the numbers that reach it.

    Args:
        data: bytes of the int8 file.
        delegate: library that computes AdderConv2D.
        images: float32 array (N, H, W, C).

    Raises:
        ExportError: an AdderConv2D differs, another operator by more than one step, or tensors
            that an operator only moves have several scales.
    """
    graph = Graph(data)
    _check_ties(graph)
    values = Probe(data, delegate)(images)
    for operator in graph.operators:
        expected = reference.compute(graph, operator, values)
        if expected is None:
            continue
        actual = values.setdefault(int(operator.outputs[0]), expected)
        if not _agrees(graph.name(operator), expected, actual):
            raise ExportError(
                "The int8 file must give the integer reference's outputs, those of adder layers "
                "bit for bit; it was not written. Received: "
                f"operator={graph.name(operator)}, outputs that differ in "
                f"{graph.tensor_name(operator.outputs[0])}={_differing(expected, actual)}"
            )


def _agrees(name: str, expected: np.ndarray, actual: np.ndarray) -> bool:
    """TFLite's own operators have several kernels, which may round to the next integer."""
    if name == CUSTOM_OPERATOR or expected.shape != actual.shape:
        return np.array_equal(expected, actual)
    return bool((np.abs(expected.astype(np.int64) - actual) <= 1).all())


def _differing(expected: np.ndarray, actual: np.ndarray) -> str:
    if expected.shape != actual.shape:
        return f"all, {actual.shape} instead of {expected.shape}"
    return f"{np.mean(expected != actual):.1%}"


def _check_ties(graph: Graph) -> None:
    """Operators that move integers without computing give them the meaning they had."""
    for operator in graph.operators:
        *inputs, output = tied_tensors(graph, operator) or [operator.outputs[0]]
        scale = graph.scale(output)
        if graph.dtype(output) == np.int8 and any(graph.scale(t) != scale for t in inputs):
            raise ExportError(
                f"Input and output of a {graph.name(operator)} must have one step and zero point; "
                f"the file was not written. Received: {graph.tensor_name(output)}, "
                f"input={[graph.scale(t) for t in inputs]}, output={scale}"
            )
