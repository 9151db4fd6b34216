"""Rounding to a range's levels in floating point, and the clipping of filters that is exact."""

from typing import Any

import numpy as np
import tensorflow as tf

from pkkd_tf.integers import integer

BITS = (2, 8)  # fewest and most


def check_bits(bits: int) -> int:
    """Returns `bits`, Python's int, if it can be used here, else raises `ValueError`."""
    number = integer(bits)
    if number is None or not BITS[0] <= number <= BITS[1]:
        raise ValueError(
            f"`bits` must be an integer from {BITS[0]} to {BITS[1]}. Received: bits={bits!r}"
        )
    return number


def scale_and_zero_point(low: float, high: float, bits: int = 8) -> tuple[float, int]:
    """The step between levels, and the level that stands for exactly 0.

        scale = (high - low) / (2^bits - 1),   zero_point = round(-low / scale)

    The range is widened to contain 0, which padding needs, and shifted by at most half a step so
    that 0 is a level; see `nudged_range`. After a ReLU (`low = 0`) nothing is shifted.

    Args:
        low: float.
        high: float, above `low` unless both are 0.
        bits: int from 2 to 8.

    Returns:
        `(scale, zero_point)`, the latter in 0..2^bits - 1.

    Raises:
        ValueError: no range, or `bits` out of its range.

    Example:
        >>> scale_and_zero_point(0.0, 7.5, bits=4)
        (0.5, 0)
    """
    bits = check_bits(bits)
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(
            f"A range must be finite and `low <= high`. Received: low={low}, high={high}"
        )
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    levels = 2**bits - 1
    scale = max((high - low) / levels, 1e-30)  # of an input that is always 0
    return scale, round(-low / scale)


def nudged_range(low: float, high: float, bits: int = 8) -> tuple[float, float]:
    """The ends of the range whose levels `scale_and_zero_point` gives: 0 is one of them."""
    bits = check_bits(bits)
    scale, zero_point = scale_and_zero_point(low, high, bits)
    return 0 - zero_point * scale, (2**bits - 1 - zero_point) * scale


def fake_quantize(x: Any, scale: Any, zero_point: Any, bits: int = 8) -> tf.Tensor:
    """Rounds to the nearest level of a range: floating point numbers, as many as `2^bits`.

        Q(x) = scale * (clip(round(x / scale) + zero_point, 0, 2^bits - 1) - zero_point)

    Ties round to even. With `x` between the first level `low` and the last one `high` the gradients
    are those of a straight-through estimator and of a learned step size (LSQ, Esser et al., ICLR
    2020, arXiv 1902.08153), whose part outside the range is PACT's (arXiv 1805.06085):

        dQ/dx      = 1 inside, 0 outside
        dQ/dscale  = round(x / scale) - x / scale inside, -zero_point below,
                     2^bits - 1 - zero_point above

    Args:
        x: tensor of any floating type; computed in float32 (float64 for float64).
        scale: scalar, above 0.
        zero_point: scalar, a whole number.
        bits: int from 2 to 8.

    Returns:
        Tensor of the shape and type of `x`.

    Raises:
        ValueError: `bits` out of its range.

    Example:
        >>> fake_quantize(tf.constant([-1.0, 0.3, 9.0]), 0.5, 0.0, bits=4)    # [0.0, 0.5, 7.5]
    """
    bits = check_bits(bits)
    levels = 2**bits - 1
    x = tf.convert_to_tensor(x)
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    zero_point = tf.stop_gradient(_scalar(zero_point, dtype))

    @tf.custom_gradient
    def quantize(x: tf.Tensor, scale: tf.Tensor) -> Any:
        def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            steps = x / scale
            inside = (steps >= -zero_point) & (steps <= levels - zero_point)
            end = tf.where(steps > 0, levels - zero_point, -zero_point)
            by_scale = tf.where(inside, tf.round(steps) - steps, end)
            return tf.where(inside, dy, 0.0), tf.reduce_sum(dy * by_scale)

        return round_to_levels(x, scale, zero_point, bits), gradients

    return tf.cast(quantize(tf.cast(x, dtype), _scalar(scale, dtype)), x.dtype)


def quantize_filters(filters: Any, scale: Any, zero_point: Any, bits: int = 8) -> tf.Tensor:
    """Rounds the part of filters that lies in the range of what they meet, and keeps the rest.

        F = Q(clip(w)) + (w - clip(w))
        -sum |x - F| = -sum |x - Q(clip(w))| - sum |w - clip(w)|      (exact: x lies in the range)

    A deployed network holds the clipped filters in integers and the last sum, which no input
    changes, as a bias. Source: AdderNet 2.0 for `[0, high]`, after a ReLU; it holds for every range
    that contains X. So only rounding loses anything: the filters lie far wider than the
    activations, and no level is spent on them.

    In training the rest stays in the filters because AdderNet's gradients are differences, `X - F`
    and `F - X` clipped to [-1, 1]: an input learns from a filter far away by the whole 1, not by
    its distance from the end of the range. The gradient to `w` goes straight through; none
    reaches the scale, as `X - F` is no derivative and clipping costs nothing to be learned.

    Args:
        filters: tensor of any shape and floating type.
        scale: scalar, above 0.
        zero_point: scalar, a whole number.
        bits: int from 2 to 8.

    Returns:
        Tensor of the shape and type of `filters`.

    Raises:
        ValueError: `bits` out of its range.

    Example:
        >>> quantize_filters(tf.constant([-1.1, 0.3, 9.2]), 0.5, 0.0, bits=4)   # [-1.1, 0.5, 9.2]
    """
    bits = check_bits(bits)
    filters = tf.convert_to_tensor(filters)
    dtype = tf.float64 if filters.dtype == tf.float64 else tf.float32
    w = tf.cast(filters, dtype)
    rounded, rest = split_filters(w, _scalar(scale, dtype), _scalar(zero_point, dtype), bits)
    return tf.cast(w + tf.stop_gradient(rounded + rest - w), filters.dtype)


def quantize_weights(weights: Any, bits: int = 8) -> tf.Tensor:
    """Rounds the weights of a layer that multiplies: symmetric, a scale an output channel.

        scale_o = max |w[..., o]| / (2^(bits - 1) - 1),   Q(w) = scale_o * round(w / scale_o)

    The gradient goes straight through.

    Args:
        weights: tensor (..., O) of float32, bfloat16, float16 or float64.
        bits: int from 2 to 8.

    Returns:
        Tensor of the same shape and type.

    Raises:
        ValueError: `bits` out of its range.

    Example:
        >>> quantize_weights(tf.constant([[0.5, 2.0], [1.0, 1.0]]), bits=2)   # levels -1, 0, 1
        [[0.0, 2.0], [1.0, 0.0]]
    """
    most = 2 ** (check_bits(bits) - 1) - 1
    weights = tf.convert_to_tensor(weights)
    dtype = tf.float64 if weights.dtype == tf.float64 else tf.float32
    w = tf.cast(weights, dtype)
    largest = tf.reduce_max(tf.abs(w), axis=list(range(w.shape.rank - 1)))
    scale = tf.where(largest > 0, largest, 1.0) / most
    rounding = tf.stop_gradient(tf.round(w / scale) * scale - w)
    return tf.cast(w + rounding, weights.dtype)


def round_to_levels(x: Any, scale: Any, zero_point: Any, bits: int) -> tf.Tensor:
    """`Q(x)` of `fake_quantize` without its gradients; all of one type."""
    level = tf.clip_by_value(tf.round(x / scale), -zero_point, 2**bits - 1 - zero_point)
    return level * scale


def split_filters(
    filters: Any, scale: Any, zero_point: Any, bits: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """`Q(clip(w))` and `w - clip(w)` of `quantize_filters`, without gradients; all of one type."""
    levels = 2**bits - 1
    clipped = tf.clip_by_value(filters, -zero_point * scale, (levels - zero_point) * scale)
    return round_to_levels(clipped, scale, zero_point, bits), filters - clipped


def _scalar(value: Any, dtype: tf.DType) -> tf.Tensor:
    """Of that type without a detour through float32, which `tf.cast` makes of a Python number."""
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)
