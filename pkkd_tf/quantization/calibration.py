"""Finds ranges on real activations: how far to clip, so that the error afterwards is smallest."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d
from pkkd_tf.ops.geometry import Padding, make_geometry
from pkkd_tf.quantization.fake_quantize import (
    check_bits,
    nudged_range,
    round_to_levels,
    scale_and_zero_point,
    split_filters,
)

MOST_TERMS = 1 << 27  # |x - f| that one candidate may cost; of more images a part is used
SMALLEST = 1 / 64  # of the whole range, the smallest that is tried
COARSE, FINE = 19, 9  # candidates of the two rounds

Errors = Callable[[float, float], float]


def best_range(
    x: np.ndarray,
    filters: np.ndarray,
    *,
    strides: Any = 1,
    padding: Padding = "VALID",
    dilations: Any = 1,
    groups: int = 1,
    bits: int = 8,
) -> tuple[float, float]:
    """The range, shared by `x` and `filters`, with the smallest squared error of the response.

        error(low, high) = sum_{n,p,q,o} (E - mean_{n,p,q} E)^2,   E = Y_quantized - Y

    where Y_quantized is the response of rounded, clipped `x` and `filters` plus the bias of
    `quantize_filters`. The mean error of an output channel does not count: a bias, or batch
    normalization re-estimated afterwards, takes it away. Tried are the range of `x` and ranges
    smaller by a factor on both ends, down to 1/64: 19 of them, then 9 around the best one. A range
    wider than that of `x` gains nothing, however wide the filters lie: their clipping is exact.

    Args:
        x: the layer's inputs on real images, float32 (N, H, W, C). Where the response of all would
            cost more than 2^27 terms, evenly spaced images are used.
        filters: float32 (kh, kw, C / groups, O).
        strides: as of `pkkd_tf.ops.adder_conv2d`, like the next three.
        padding: `"SAME"`, `"VALID"` or pixels.
        dilations: pixels from tap to tap.
        groups: of channels.
        bits: int from 2 to 8.

    Returns:
        `(low, high)`, with 0 exactly on one of the `2^bits` levels; `low` is 0 where no `x` is
        negative.

    Raises:
        ValueError: as `pkkd_tf.ops.adder_conv2d`; `bits` out of its range; no image, or a number
            that is not finite.

    Example:
        >>> x = np.maximum(np.random.default_rng(0).standard_normal((8, 16, 16, 4)), 0)
        >>> f = np.random.default_rng(1).standard_normal((3, 3, 4, 8))
        >>> low, high = best_range(x.astype("f"), f.astype("f"), padding="SAME", bits=4)
    """
    window = strides, padding, dilations, groups
    x = subsample(x, filters.shape, window)
    return search(x, response_error(x, filters, window, bits), bits)


def response_error(x: np.ndarray, filters: np.ndarray, window: Any, bits: int) -> Errors:
    """The error that `best_range` minimises, relative to the variance of the response.

    Args:
        x: as of `best_range`.
        filters: as of `best_range`.
        window: strides, padding, dilations, groups.
        bits: int from 2 to 8.

    Returns:
        Function of low and high; mean squared error over variance, so that layers can be added.
    """
    bits = check_bits(bits)
    images = tf.constant(subsample(x, filters.shape, window), tf.float32)
    filters = tf.constant(filters, tf.float32)
    exact = adder_conv2d(images, filters, *window)
    spread = float(tf.reduce_sum(tf.math.reduce_variance(exact, [0, 1, 2]))) or 1.0

    def error(low: float, high: float) -> float:
        parameters = (*scale_and_zero_point(low, high, bits), bits)
        rounded, _ = split_filters(filters, *parameters)  # the rest is a constant an output
        y = adder_conv2d(round_to_levels(images, *parameters), rounded, *window)
        return float(tf.reduce_sum(tf.math.reduce_variance(y - exact, [0, 1, 2]))) / spread

    return error


def tensor_range(x: np.ndarray, bits: int = 8) -> tuple[float, float]:
    """The range in which rounding `x` itself leaves the smallest squared error.

    Args:
        x: float array of any shape.
        bits: int from 2 to 8.

    Returns:
        `(low, high)` as of `best_range`.

    Raises:
        ValueError: `bits` out of its range, nothing in `x`, or a number that is not finite.

    Example:
        >>> tensor_range(np.array([0.0, 0.5, 1.5]), bits=2)
        (0.0, 1.5)
    """
    bits = check_bits(bits)
    values = tf.constant(_checked(x), tf.float32)

    def error(low: float, high: float) -> float:
        rounded = round_to_levels(values, *scale_and_zero_point(low, high, bits), bits)
        return float(tf.reduce_sum(tf.math.squared_difference(values, rounded)))

    return search(x, error, bits)


def search(x: np.ndarray, error: Errors, bits: int) -> tuple[float, float]:
    """The nudged range of smallest `error` among that of `x` and smaller ones.

    Args:
        x: array whose extremes are the widest range; 0 is added to it.
        error: function of low and high.
        bits: int from 2 to 8.

    Returns:
        `(low, high)`; the wider one of two that are equally good.
    """
    bits = check_bits(bits)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if low == high:
        return nudged_range(low, high, bits)

    def best_of(factors: np.ndarray) -> float:
        return min(factors, key=lambda f: error(*nudged_range(low * f, high * f, bits)))

    coarse = np.geomspace(1.0, SMALLEST, COARSE)
    step = coarse[1]
    factor = best_of(coarse)
    around = np.geomspace(min(factor / step, 1.0), factor * step, FINE)
    factor = best_of(np.append(around, factor))
    return nudged_range(low * factor, high * factor, bits)


def subsample(x: np.ndarray, kernel: Any, window: Any) -> np.ndarray:
    """Evenly spaced images, as many as `MOST_TERMS` allows for filters of shape `kernel`.

    Raises:
        ValueError: no image, or a number that is not finite.
    """
    x = _checked(x)
    if x.ndim != 4 or len(kernel) != 4:
        return x  # the response says what is wrong
    geometry = make_geometry(*window)
    pads = geometry.pads(x.shape[1:3], kernel[:2])
    padded = [size + sum(pad) for size, pad in zip(x.shape[1:3], pads)]
    terms = math.prod(geometry.output_size(padded, kernel[:2])) * math.prod(kernel)
    count = min(len(x), max(1, MOST_TERMS // max(terms, 1)))
    return x[np.linspace(0, len(x) - 1, count).astype(int)]


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(
            "Calibration needs at least one number, and only finite ones. "
            f"Received: x.shape={x.shape}, finite={bool(np.isfinite(x).all())}"
        )
    return x
