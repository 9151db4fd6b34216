"""An int8 network in NumPy, which an exported file is compared with, operator by operator.

AdderConv2D must give it bit for bit; TFLite's own operators to one step, as TFLite has several
kernels for them. These are computed as XNNPACK does, which both interpreters use: products summed
in int32, scaled in float32, rounded to the nearest even. Averages, and sums and products of tensors
whose steps differ much (`arithmetic`), are left to TFLite's own kernels, and computed as those do.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph, get_options
from export.tflite.int8 import arithmetic, moving, windows
from export.tflite.int8.arithmetic import Activation, Scales
from export.tflite.responses import CUSTOM_OPERATOR
from pkkd_tf.quantization.integer import adder_conv2d_int8


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

    def __call__(self, images: np.ndarray) -> Any:
        """The int8 output for int8 images (N, H, W, C), several by their names."""
        values = {int(self.graph.subgraph.inputs[0]): images}
        for operator in self.graph.operators:
            values[int(operator.outputs[0])] = compute(self.graph, operator, values)
        found = {name: values[tensor] for name, tensor in self.graph.outputs().items()}
        return found if len(found) > 1 else next(iter(found.values()))


def compute(graph: Graph, operator: Any, values: dict[int, np.ndarray]) -> np.ndarray | None:
    """The output of one operator.

    Args:
        graph: the int8 network.
        operator: one of its operators.
        values: numbers of its computed tensors.

    Returns:
        The integers; None where the operator is not known here, or an input neither.
    """
    inputs = [None if t < 0 else values.get(int(t), graph.constant(t)) for t in operator.inputs]
    name, given = graph.name(operator), [x is not None for x in inputs]
    if name not in (CUSTOM_OPERATOR, *_OPERATORS) or given != [t >= 0 for t in operator.inputs]:
        return None
    if name == CUSTOM_OPERATOR:
        return run_adder(get_options(operator), inputs)
    if name in arithmetic.OF_SIZES and graph.dtype(operator.outputs[0]) == np.int32:
        return arithmetic.OF_SIZES[name](*inputs)
    return _OPERATORS[name](operator.builtinOptions, inputs, Scales(graph, operator))


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


def _fully_connected(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    x, filters, bias = inputs
    x = x if options.keepNumDims else x.reshape(-1, filters.shape[1])
    sums = (x.astype(np.int32) - scales.zeros[0]) @ filters.astype(np.int32).T
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, windows.factor(scales), options.fusedActivationFunction)


def _mean(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    x, axes = inputs
    axes = tuple(axes.reshape(-1))
    count = np.prod([x.shape[axis] for axis in axes])
    sums = (x.astype(np.int32) - scales.zeros[0]).sum(axes, keepdims=options.keepDims)
    factor = np.float32(scales.steps[0][0]) / (np.float32(scales.steps[-1][0]) * np.float32(count))
    return scales.requantized(sums, factor, 0)


def _activation(kind: int) -> Callable[[Any, list[Any], Scales], np.ndarray]:
    """An operator of its own, whose output may have another scale."""

    def compute(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
        del options
        factor = np.float32(scales.steps[0][0]) / np.float32(scales.steps[-1][0])
        return scales.requantized(inputs[0].astype(np.int32) - scales.zeros[0], factor, kind)

    return compute


def _function(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """A function of each number by itself; halves may round either way in a C library's table."""

    def compute(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
        del options
        x = (inputs[0].astype(np.float64) - scales.zeros[0]) * scales.steps[0][0]
        return scales.requantized(function(x), 1 / scales.steps[-1][0], 0)

    return compute


def _gelu(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    def exact(x: np.ndarray) -> np.ndarray:
        return x / 2 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))

    def approximate(x: np.ndarray) -> np.ndarray:
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    return _function(approximate if options.approximate else exact)(options, inputs, scales)


def _softmax(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    powers = inputs[0].astype(np.float64) * scales.steps[0][0] * options.beta
    powers = np.exp(powers - powers.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    return scales.requantized(shares, 1 / scales.steps[-1][0], 0)


_OPERATORS: dict[str, Callable[[Any, list[Any], Scales], Any]] = {
    "CONV_2D": windows.conv,
    "DEPTHWISE_CONV_2D": windows.depthwise_conv,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": windows.transpose_conv,
    "ADD": arithmetic.add(1),
    "SUB": arithmetic.add(-1),
    "MUL": arithmetic.multiply,
    "MEAN": _mean,
    "MAX_POOL_2D": windows.max_pool,
    "AVERAGE_POOL_2D": windows.average_pool,
    "RELU": _activation(Activation.RELU),
    "RELU6": _activation(Activation.RELU6),
    "LEAKY_RELU": arithmetic.leaky_relu,
    "PRELU": arithmetic.prelu,
    "LOGISTIC": _function(lambda x: (1 + np.tanh(x / 2)) / 2),
    "TANH": _function(np.tanh),
    "ELU": _function(lambda x: np.maximum(x, 0) + np.expm1(np.minimum(x, 0))),
    "GELU": _gelu,
    "HARD_SWISH": _function(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "SOFTMAX": _softmax,
    **moving.OPERATORS,
}
