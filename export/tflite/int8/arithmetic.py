"""Integers of one scale from integers of another; sums, products, lines of two slopes.

XNNPACK takes an operator only where the steps of its tensors are in a certain ratio; for the others
TFLite's own kernels serve, which round twice.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph
from pkkd_tf.quantization.integer import LEAST, MOST

Activation = schema.ActivationFunctionType
_BOUNDS = {  # of the real numbers that an activation lets through
    Activation.NONE: (-np.inf, np.inf),
    Activation.RELU: (0.0, np.inf),
    Activation.RELU6: (0.0, 6.0),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
}
# What XNNPACK takes: steps of what is added, and products of steps, to the step of the output.
SUM_RATIOS, PRODUCT_RATIOS = (2.0**-10, 2.0**8), (2.0**-16, 2.0**8)
SLOPES = (2.0**-8, 2.0**7)  # and of a leaky ReLU, both of them
OF_SIZES = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply}  # of int32, which have no scale
_SUM_BITS = 20  # that TFLite shifts the terms of a sum by


class Scales:
    """Steps and zero points of an operator's tensors."""

    def __init__(self, graph: Graph, operator: Any):
        tensors = [int(t) for t in [*operator.inputs, *operator.outputs] if t >= 0]
        found = [graph.subgraph.tensors[t].quantization for t in tensors]
        self.steps = [q.scale if q and q.scale is not None else None for q in found]
        self.zeros = [int(q.zeroPoint[0]) if q and q.zeroPoint is not None else 0 for q in found]

    def requantized(self, sums: np.ndarray, factor: Any, activation: int) -> np.ndarray:
        """int32 sums times float32 factors, rounded, as int8."""
        scaled = np.rint(sums.astype(np.float32) * np.float32(factor)).astype(np.int64)
        return self.activated(scaled + self.zeros[-1], activation)

    def activated(self, values: np.ndarray, activation: int) -> np.ndarray:
        """Integers of the output as int8, within the bounds of an activation."""
        step, zero = np.float32(self.steps[-1][0]), self.zeros[-1]
        low, high = (np.rint(np.float32(bound) / step) + zero for bound in _BOUNDS[activation])
        return np.clip(values, max(low, LEAST), min(high, MOST)).astype(np.int8)


def add(sign: int) -> Callable[[Any, list[Any], Scales], np.ndarray]:
    """The sum of two tensors, or with -1 their difference."""

    def compute(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
        x, y = _centred(inputs, scales)
        steps = [np.float32(step[0]) for step in scales.steps]
        ratios = [step / steps[2] for step in steps[:2]]
        taken = all(SUM_RATIOS[0] <= ratio < SUM_RATIOS[1] for ratio in ratios)
        sums = _xnnpack_sum(x, sign * y, ratios) if taken else _tflite_sum(x, sign * y, steps)
        return scales.activated(sums + scales.zeros[-1], options.fusedActivationFunction)

    return compute


def multiply(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """The product of two tensors."""
    x, y = _centred(inputs, scales)
    steps = [np.float32(step[0]) for step in scales.steps]
    ratio = steps[0] * steps[1] / steps[2]
    if PRODUCT_RATIOS[0] <= ratio < PRODUCT_RATIOS[1]:
        return scales.requantized(x * y, ratio, options.fusedActivationFunction)
    products = _scaled(x * y, float(steps[0]) * float(steps[1]) / float(steps[2]))
    return scales.activated(products + scales.zeros[-1], options.fusedActivationFunction)


def leaky_relu(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """`x`, and `alpha x` where x is negative: XNNPACK takes 8 bits of either slope, half up."""
    (x,) = _centred(inputs, scales)
    steps = [np.float32(step[0]) for step in scales.steps]
    slopes = steps[0] / steps[1], np.float32(options.alpha) * (steps[0] / steps[1])
    if all(SLOPES[0] <= slope <= SLOPES[1] for slope in slopes):
        above, below = ((x * int(np.rint(slope * 256)) + 128) >> 8 for slope in slopes)
    else:
        above, below = (_scaled(x, float(slope)) for slope in slopes)
    values = np.where(x < 0, below, above) + scales.zeros[-1]
    return scales.activated(values, Activation.NONE)


def prelu(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """`x`, and `alpha x` where x is negative, with an alpha for each channel or number."""
    del options
    x, alpha = _centred(inputs, scales)
    steps = [float(step[0]) for step in scales.steps]
    above = _scaled(x, steps[0] / steps[2])
    below = _scaled(x * alpha, steps[0] * steps[1] / steps[2])
    return scales.activated(np.where(x < 0, below, above) + scales.zeros[-1], Activation.NONE)


def _centred(inputs: list[Any], scales: Scales) -> list[np.ndarray]:
    return [x.astype(np.int64) - zero for x, zero in zip(inputs, scales.zeros)]


def _xnnpack_sum(x: np.ndarray, y: np.ndarray, ratios: list[Any]) -> np.ndarray:
    """Factors of 21 bits for the larger ratio, one rounding, half up."""
    shift = _SUM_BITS + 1 - int(np.frexp(max(ratios))[1])
    factors = [int(np.rint(np.ldexp(float(ratio), shift))) for ratio in ratios]
    return (x * factors[0] + y * factors[1] + (1 << (shift - 1))) >> shift


def _tflite_sum(x: np.ndarray, y: np.ndarray, steps: list[Any]) -> np.ndarray:
    """Terms and sum are each rounded, in units of twice the larger step."""
    unit = 2.0 * max(float(step) for step in steps[:2])
    terms = [_scaled(q << _SUM_BITS, float(step) / unit) for q, step in zip((x, y), steps)]
    return _scaled(terms[0] + terms[1], unit / (2.0**_SUM_BITS * float(steps[2])))


def _scaled(values: np.ndarray, factor: float) -> np.ndarray:
    """TFLite's product with a factor of 31 bits and an exponent: two roundings, half from 0."""
    fraction, exponent = np.frexp(factor)
    multiplier, exponent = int(np.floor(fraction * 2.0**31 + 0.5)), int(exponent)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    products = (values << max(exponent, 0)) * multiplier
    return _rounded(_rounded(products, 31), max(-exponent, 0))


def _rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """`values / 2**bits`, half away from 0."""
    half = (1 << bits) >> 1
    return np.sign(values) * ((np.abs(values) + half) >> bits)
