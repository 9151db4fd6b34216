"""Changes of shape whose new shape needs no computing."""

from typing import Any

import numpy as np

from export.tflite.graph import Graph


def fix_shape(graph: Graph, operator: Any) -> None:
    """Makes the shape of a RESHAPE to (number of images, known sizes) a constant.

    SHAPE, STRIDED_SLICE and PACK compute it; the first size is what is left, -1.

    Args:
        graph: the network.
        operator: a RESHAPE.
    """
    sizes = _known_sizes(graph, operator)
    if sizes is not None:
        name = f"{graph.tensor_name(operator.outputs[0])}/shape"
        constant = graph.add_constant(np.array([-1, *sizes], np.int32), name)
        operator.inputs = [operator.inputs[0], constant]


def _known_sizes(graph: Graph, operator: Any) -> list[int] | None:
    """The sizes behind the number of images; None where the shape is of another form."""
    pack = _made_by(graph, operator.inputs[1], "PACK")
    if pack is None or not _counts_images(graph, pack.inputs[0], operator.inputs[0]):
        return None
    sizes = [graph.constant(t) for t in pack.inputs[1:]]
    return None if any(size is None for size in sizes) else [int(size) for size in sizes]


def _counts_images(graph: Graph, count: int, images: int) -> bool:
    """Whether a tensor is the first size of another one whose other sizes are known."""
    first = _made_by(graph, count, "STRIDED_SLICE")
    shape = None if first is None else _made_by(graph, first.inputs[0], "SHAPE")
    if shape is None or graph.constant(first.inputs[1]).any():
        return False
    return list(shape.inputs) == [images] and -1 not in graph.shape(images)[1:]


def _made_by(graph: Graph, tensor: int, name: str) -> Any | None:
    """The operator that makes a tensor, if it has this name."""
    maker = graph.producer(tensor)
    return maker if maker is not None and graph.name(maker) == name else None
