"""Operators of a float network in forms that lose less in int8, with the same outputs."""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph, get_options, set_options
from export.tflite.responses import CUSTOM_OPERATOR

_NONE = schema.ActivationFunctionType.NONE
AFFINE = ("MUL", "ADD", "SUB")


def join_scale_and_offset(data: bytes) -> bytes:
    """A scale and an offset a channel, in either order and of two operators, in one.

    As of a batch normalization, MUL and ADD, or of a `Normalization`, SUB and MUL. The one is a
    depthwise convolution of one pixel: its sums have 32 bits, where the first result would be
    rounded to 8 before the second number, which may be much the larger, is taken in.

    Args:
        data: bytes of a float `.tflite` file.

    Returns:
        Bytes of the changed file.
    """
    graph = Graph(data)
    for first in [o for name in AFFINE for o in graph.named(name)]:
        readers = graph.consumers(first.outputs[0])
        alone = len(readers) == 1 and not graph.is_output(first.outputs[0])
        pair = {graph.name(first), graph.name(readers[0])} if alone else set()
        if "MUL" in pair and len(pair) == 2 and pair <= set(AFFINE):
            _join(graph, first, readers[0])
    graph.drop_unread()
    return graph.to_bytes()


def _join(graph: Graph, first: Any, second: Any) -> None:
    x, scale, offset = _parts(graph, first)
    y, factor, term = _parts(graph, second)
    plain = first.builtinOptions.fusedActivationFunction == _NONE
    if scale is None or factor is None or y != first.outputs[0] or not plain:
        return
    name = graph.tensor_name(second.outputs[0])
    filters = graph.add_constant((scale * factor).reshape(1, 1, 1, -1), f"{name}/scale")
    bias = graph.add_constant(offset * factor + term, f"{name}/offset")
    second.inputs = [x, filters, bias]
    second.opcodeIndex = graph.operator_code("DEPTHWISE_CONV_2D", 1)
    second.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    second.builtinOptions = schema.DepthwiseConv2DOptionsT(
        padding=schema.Padding.VALID,
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=second.builtinOptions.fusedActivationFunction,
    )


def _parts(graph: Graph, operator: Any) -> tuple[int, Any, Any]:
    """An operator's images, and its scale and offset of each channel; None where it has none."""
    first, second = (int(t) for t in operator.inputs)
    x, other = (first, second) if graph.constant(first) is None else (second, first)
    values, shape = graph.constant(other), graph.shape(x)
    if values is None or values.dtype != np.float32 or len(shape) != 4 or shape[3] < 1:
        return x, None, None
    if values.size != 1 and (values.size != shape[3] or values.shape[-1] != shape[3]):
        return x, None, None
    numbers = np.broadcast_to(values.reshape(-1), shape[3]).copy()
    name, ones = graph.name(operator), np.ones(shape[3], np.float32)
    if name == "MUL":
        return x, numbers, 0 * ones
    if name == "ADD":
        return x, ones, numbers
    return (x, ones, -numbers) if x == first else (x, -ones, numbers)


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
