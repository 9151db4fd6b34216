"""Operators of a float network in forms that lose less in int8, with the same outputs."""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph, get_options, set_options
from export.tflite.responses import CUSTOM_OPERATOR

_NONE = schema.ActivationFunctionType.NONE


def join_scale_and_offset(data: bytes) -> bytes:
    """MUL and ADD by a number a channel, as of a batch normalization, in one operator.

    That is a depthwise convolution of one pixel: its sums have 32 bits, where the product would be
    rounded to 8 before the offset, which may be much the larger, is added.

    Args:
        data: bytes of a float `.tflite` file.

    Returns:
        Bytes of the changed file.
    """
    graph = Graph(data)
    for product in graph.named("MUL"):
        readers = graph.consumers(product.outputs[0])
        alone = len(readers) == 1 and not graph.is_output(product.outputs[0])
        if alone and graph.name(readers[0]) == "ADD":
            _join(graph, product, readers[0])
    graph.drop_unread()
    return graph.to_bytes()


def _join(graph: Graph, product: Any, total: Any) -> None:
    x, scale = _parts(graph, product)
    y, offset = _parts(graph, total)
    plain = product.builtinOptions.fusedActivationFunction == _NONE
    if scale is None or offset is None or y != product.outputs[0] or not plain:
        return
    name = graph.tensor_name(total.outputs[0])
    filters = graph.add_constant(scale.reshape(1, 1, 1, -1), f"{name}/scale")
    total.inputs = [x, filters, graph.add_constant(offset, f"{name}/offset")]
    total.opcodeIndex = graph.operator_code("DEPTHWISE_CONV_2D", 1)
    total.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    total.builtinOptions = schema.DepthwiseConv2DOptionsT(
        padding=schema.Padding.VALID,
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=total.builtinOptions.fusedActivationFunction,
    )


def _parts(graph: Graph, operator: Any) -> tuple[int, np.ndarray | None]:
    """An operator's images, and its constant as a number a channel; None where it has none."""
    first, second = (int(t) for t in operator.inputs)
    x, other = (first, second) if graph.constant(first) is None else (second, first)
    values, shape = graph.constant(other), graph.shape(x)
    if values is None or values.dtype != np.float32 or len(shape) != 4 or shape[3] < 1:
        return x, None
    if values.size != 1 and (values.size != shape[3] or values.shape[-1] != shape[3]):
        return x, None
    return x, np.broadcast_to(values.reshape(-1), shape[3]).copy()


def take_in_relu6(graph: Graph) -> None:
    """Has adder operators end in the ReLU6 that alone reads them: option `relu6`, `relu` too."""
    for operator in graph.named(CUSTOM_OPERATOR):
        readers = graph.consumers(operator.outputs[0])
        alone = len(readers) == 1 and not graph.is_output(operator.outputs[0])
        if not alone or graph.name(readers[0]) != "RELU6":
            continue
        set_options(operator, get_options(operator) | {"relu": 1, "relu6": 1})
        operator.outputs = readers[0].outputs
        graph.operators.remove(readers[0])
