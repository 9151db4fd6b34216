"""Dilated convolutions as one operator, where the converter leaves three.

    SPACE_TO_BATCH_ND -> CONV_2D or DEPTHWISE_CONV_2D -> BATCH_TO_SPACE_ND

takes the images apart into d x d sparser ones, as TensorFlow's own kernels did once; TFLite's
operators have a dilation, and no int8 form of the outer two here.
"""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def join_dilated(data: bytes) -> bytes:
    """Joins the three operators of every dilated convolution whose padding is known and has a name.

    Args:
        data: bytes of a float `.tflite` file.

    Returns:
        Bytes of the changed file.
    """
    graph = Graph(data)
    for convolution in [o for name in CONVOLUTIONS for o in graph.named(name)]:
        apart = graph.producer(convolution.inputs[0])
        readers = graph.consumers(convolution.outputs[0])
        names = [graph.name(o) for o in (apart, *readers) if o is not None]
        if names == ["SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"]:
            _join(graph, apart, convolution, readers[0])
    graph.drop_unread()
    return graph.to_bytes()


def _join(graph: Graph, apart: Any, convolution: Any, together: Any) -> None:
    sizes = [graph.constant(t) for t in (*apart.inputs[1:], *together.inputs[1:])]
    if any(size is None for size in sizes):
        return  # of images of any size: what is added is only known with them
    dilation, pads, again, crops = sizes
    options = convolution.builtinOptions
    plain = options.strideH == options.strideW == 1 and options.padding == schema.Padding.VALID
    kernel = graph.shape(convolution.inputs[1])[1:3]
    padding = _padding(pads - crops, (np.array(kernel) - 1) * dilation)
    if not plain or padding is None or not np.array_equal(dilation, again):
        return
    options.padding = padding
    options.dilationHFactor, options.dilationWFactor = (int(d) for d in dilation)
    convolution.inputs = [apart.inputs[0], *convolution.inputs[1:]]
    convolution.outputs = together.outputs
    graph.operators.remove(together)


def _padding(pads: np.ndarray, span: np.ndarray) -> int | None:
    """The name of a padding (before, after) of windows that reach so many pixels further."""
    same = np.stack([span // 2, span - span // 2], 1)
    if np.array_equal(pads, same):
        return schema.Padding.SAME
    return None if pads.any() else schema.Padding.VALID
