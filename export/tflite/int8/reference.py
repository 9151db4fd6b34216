"""An int8 network in NumPy: what every interpreter, delegate and kernel must give, bit for bit.

Builtin operators are computed as XNNPACK does, which both interpreters use: products summed in
int32, scaled in float32, rounded to the nearest even.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.program import ExportError
from export.tflite.graph import Graph, get_options
from export.tflite.responses import CUSTOM_OPERATOR
from pkkd_tf.ops.geometry import make_geometry
from pkkd_tf.quantization.integer import LEAST, MOST, adder_conv2d_int8

_RELU = schema.ActivationFunctionType.RELU
_SAME = schema.Padding.SAME


class IntegerNetwork:
    """Computes an int8 `.tflite` file without TFLite.

    Args:
        data: bytes of a file that `export.tflite` wrote with `--format=int8`.

    Raises:
        ExportError: it holds an operator that is not known here.

    Example:
        >>> IntegerNetwork(pathlib.Path("r20_int8.tflite").read_bytes())(images).dtype
        dtype('int8')
    """

    def __init__(self, data: bytes):
        self.graph = Graph(data)
        names = {self.graph.name(operator) for operator in self.graph.operators}
        unknown = sorted(names - {CUSTOM_OPERATOR, *_OPERATORS})
        if unknown:
            raise ExportError(
                f"Operators of an integer network must be among {', '.join(_OPERATORS)}. "
                f"Received: {', '.join(unknown)}"
            )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The int8 outputs for int8 images (N, H, W, C)."""
        values = {int(self.graph.subgraph.inputs[0]): images}
        for operator in self.graph.operators:
            values[int(operator.outputs[0])] = self._compute(operator, values)
        return values[int(self.graph.subgraph.outputs[0])]

    def _compute(self, operator: Any, values: dict[int, np.ndarray]) -> np.ndarray:
        inputs = [
            None if t < 0 else values[int(t)] if int(t) in values else self.graph.constant(t)
            for t in operator.inputs
        ]
        name = self.graph.name(operator)
        if name == CUSTOM_OPERATOR:
            return run_adder(get_options(operator), inputs)
        scales = _Scales(self.graph, operator)
        return _OPERATORS[name](operator.builtinOptions, inputs, scales)


def run_adder(options: dict[str, int], inputs: list[Any]) -> np.ndarray:
    """One AdderConv2D from its options and its inputs' numbers."""
    pads = [[options[f"pad_{side}"] for side in pair] for pair in _SIDES]
    strides, dilations = ((options[f"{k}_h"], options[f"{k}_w"]) for k in ("stride", "dilation"))
    return adder_conv2d_int8(
        *inputs[:4],
        shift=options["shift"],
        zero=options["zero"],
        strides=strides,
        padding=pads,
        dilations=dilations,
        groups=options["groups"],
        residual=inputs[4] if options.get("residual") else None,
        residual_multiplier=options.get("residual_multiplier", 0),
        low=options["low"],
        high=options["high"],
    )


_SIDES = (("top", "bottom"), ("left", "right"))


class _Scales:
    """Steps and zero points of an operator's tensors."""

    def __init__(self, graph: Graph, operator: Any):
        tensors = [int(t) for t in [*operator.inputs, *operator.outputs] if t >= 0]
        found = [graph.subgraph.tensors[t].quantization for t in tensors]
        self.steps = [q.scale if q and q.scale is not None else None for q in found]
        self.zeros = [int(q.zeroPoint[0]) if q and q.zeroPoint is not None else 0 for q in found]

    def requantized(self, sums: np.ndarray, factor: Any, activation: int) -> np.ndarray:
        """int32 sums times float32 factors, rounded, as int8."""
        zero = self.zeros[-1]
        scaled = np.rint(sums.astype(np.float32) * np.float32(factor)).astype(np.int64) + zero
        return np.clip(scaled, zero if activation == _RELU else LEAST, MOST).astype(np.int8)


def _conv(options: Any, inputs: list[Any], scales: _Scales) -> np.ndarray:
    x, filters, bias = inputs
    geometry = make_geometry(
        (options.strideH, options.strideW),
        "SAME" if options.padding == _SAME else "VALID",
        (options.dilationHFactor, options.dilationWFactor),
        1,
    )
    windows = _windows(x.astype(np.int32) - scales.zeros[0], filters.shape[1:3], geometry)
    sums = np.tensordot(windows, filters.astype(np.int32), ((3, 4, 5), (1, 2, 3)))
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, _factor(scales), options.fusedActivationFunction)


def _windows(x: np.ndarray, kernel: Any, geometry: Any) -> np.ndarray:
    """(N, P, Q, kh, kw, C) of an image that is 0 outside."""
    x = np.pad(x, ((0, 0), *geometry.pads(x.shape[1:3], kernel), (0, 0)))
    rows, columns = geometry.output_size(x.shape[1:3], kernel)
    (down, right), (apart_h, apart_w) = geometry.strides, geometry.dilations
    at = np.arange(rows)[:, None] * down + np.arange(kernel[0]) * apart_h
    across = np.arange(columns)[:, None] * right + np.arange(kernel[1]) * apart_w
    return x[:, at[:, None, :, None], across[None, :, None, :]]


def _factor(scales: _Scales) -> np.ndarray:
    x, filters, y = (scales.steps[i] for i in (0, 1, -1))
    return np.float32(x) * np.float32(filters) / np.float32(y)


def _fully_connected(options: Any, inputs: list[Any], scales: _Scales) -> np.ndarray:
    x, filters, bias = inputs
    sums = (x.astype(np.int32) - scales.zeros[0]) @ filters.astype(np.int32).T
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, _factor(scales), options.fusedActivationFunction)


def _mean(options: Any, inputs: list[Any], scales: _Scales) -> np.ndarray:
    x, axes = inputs
    axes = tuple(axes.reshape(-1))
    count = np.prod([x.shape[axis] for axis in axes])
    sums = (x.astype(np.int32) - scales.zeros[0]).sum(axes, keepdims=options.keepDims)
    factor = np.float32(scales.steps[0][0]) / (np.float32(scales.steps[-1][0]) * np.float32(count))
    return scales.requantized(sums, factor, 0)


def _max_pool(options: Any, inputs: list[Any], scales: _Scales) -> np.ndarray:
    del scales
    kernel = options.filterHeight, options.filterWidth
    padding = "SAME" if options.padding == _SAME else "VALID"
    geometry = make_geometry((options.strideH, options.strideW), padding, 1, 1)
    x = inputs[0].astype(np.int32) - LEAST  # padding counts as the smallest value
    return (_windows(x, kernel, geometry).max((3, 4)) + LEAST).astype(np.int8)


def _pad(options: Any, inputs: list[Any], scales: _Scales) -> np.ndarray:
    return np.pad(inputs[0], inputs[1], constant_values=scales.zeros[0])


_OPERATORS: dict[str, Callable[[Any, list[Any], _Scales], Any]] = {
    "CONV_2D": _conv,
    "FULLY_CONNECTED": _fully_connected,
    "MEAN": _mean,
    "MAX_POOL_2D": _max_pool,
    "PAD": _pad,
    "MINIMUM": lambda options, inputs, scales: np.minimum(*inputs),
    "RESHAPE": lambda options, inputs, scales: inputs[0].reshape(inputs[1]),
    "SHAPE": lambda options, inputs, scales: np.array(inputs[0].shape),
    "STRIDED_SLICE": lambda options, inputs, scales: inputs[0][inputs[1][0]],
    "PACK": lambda options, inputs, scales: np.stack(inputs),
}
