"""The int8 adder operator in integers: the definition that every kernel agrees with bit for bit."""

from typing import Any

import numpy as np

from pkkd_tf.ops.geometry import Geometry, Padding, make_geometry

LEAST, MOST = -128, 127  # of int8
MOST_SHIFT = 46
MOST_TERMS = 1 << 22  # of a sum; then no step of the definition leaves int64
MOST_BIAS = 1 << 61
ARRAYS: dict[str, tuple[Any, int]] = {  # type and number of dimensions
    "x": (np.int8, 4),
    "filters": (np.int8, 4),
    "multiplier": (np.int32, 1),
    "bias": (np.int64, 1),
    "residual": (np.int8, 4),
}


def adder_conv2d_int8(
    x: np.ndarray,
    filters: np.ndarray,
    multiplier: np.ndarray,
    bias: np.ndarray,
    *,
    shift: int,
    zero: int = LEAST,
    strides: Any = 1,
    padding: Padding = "VALID",
    dilations: Any = 1,
    groups: int = 1,
    residual: np.ndarray | None = None,
    residual_multiplier: int = 0,
    low: int = LEAST,
    high: int = MOST,
) -> np.ndarray:
    """Computes an adder layer with everything that follows it, on int8 numbers.

        S[n,p,q,o] = sum_{i,j,c} |X[n, p*sh-pt+i*dh, q*sw-pl+j*dw, c] - F[i,j,c,o]|
        Y[n,p,q,o] = clamp((S * multiplier[o] + R * residual[n,p,q,o] + bias[o]) >> shift,
                           low, high)

    X and F share one scale and one zero point; a tap outside the image has X = `zero`. Scales,
    batch normalization, rounding and the clipped part of the filters are inside `multiplier` and
    `bias`, ReLU is `low`. All sums are exact in int64. `>>` rounds towards minus infinity.

    Args:
        x: int8 array (N, H, W, C).
        filters: int8 array (kh, kw, C / groups, O), `kh * kw * C / groups <= 2**22`.
        multiplier: int32 array (O,).
        bias: int64 array (O,), of magnitude at most `2**61`.
        shift: int, 1 to 46.
        zero: int, what a padded tap is.
        strides: as of `pkkd_tf.ops.adder_conv2d`, like the next three.
        padding: `"SAME"`, `"VALID"` or pixels.
        dilations: pixels from tap to tap.
        groups: of channels.
        residual: int8 array (N, P, Q, O), or None.
        residual_multiplier: int32 R.
        low: int, the smallest output, at least -128.
        high: int, the largest output, `low <= high <= 127`.

    Returns:
        int8 array (N, P, Q, O).

    Raises:
        ValueError: types, shapes or numbers are not as said.

    Example:
        >>> x = np.array([[[[3, -2]]]], np.int8)
        >>> f = np.array([[[[1], [4]]]], np.int8)             # |3 - 1| + |-2 - 4| = 8
        >>> adder_conv2d_int8(x, f, np.array([-3], np.int32), np.array([1], np.int64), shift=1)
        array([[[[-12]]]], dtype=int8)
    """
    _check_types(x=x, filters=filters, multiplier=multiplier, bias=bias, residual=residual)
    _check_shapes(x, filters, multiplier, bias, groups)
    _check_numbers(shift, zero, low, high, bias)
    geometry = make_geometry(strides, padding, dilations, groups)
    sums = distances(x, filters, geometry, zero)
    total = sums * multiplier.astype(np.int64) + bias
    if residual is not None:
        if residual.shape != total.shape:
            raise ValueError(
                "`residual` must have the shape of the output. "
                f"Received: residual.shape={residual.shape}, output shape={total.shape}"
            )
        total += residual.astype(np.int64) * residual_multiplier
    return np.clip(total >> shift, low, high).astype(np.int8)


def distances(
    x: np.ndarray, filters: np.ndarray, geometry: Geometry, zero: int = LEAST
) -> np.ndarray:
    """The sums S of `adder_conv2d_int8`, int64; its arguments."""
    kh, kw, inputs, outputs = filters.shape
    pads = geometry.pads(x.shape[1:3], (kh, kw))
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=zero).astype(np.int16)
    size = geometry.output_size(x.shape[1:3], (kh, kw))
    filters = filters.astype(np.int16)
    sums = np.zeros((x.shape[0], *size, outputs), np.int64)
    for i, j in np.ndindex(kh, kw):
        tap = _pixels_under_tap(x, (i, j), size, geometry)
        for o in range(outputs):
            first = o // (outputs // geometry.groups) * inputs
            own = tap[..., first : first + inputs]
            sums[..., o] += np.abs(own - filters[i, j, :, o]).sum(-1, dtype=np.int64)
    return sums


def _pixels_under_tap(x: np.ndarray, tap: Any, size: Any, geometry: Geometry) -> np.ndarray:
    firsts = [number * apart for number, apart in zip(tap, geometry.dilations)]
    rows, columns = (
        slice(first, first + (count - 1) * stride + 1, stride) if count else slice(0)
        for first, count, stride in zip(firsts, size, geometry.strides)
    )
    return x[:, rows, columns]


def _check_types(**arrays: np.ndarray | None) -> None:
    for name, (dtype, rank) in ARRAYS.items():
        array = arrays[name]
        if array is not None and (array.dtype != dtype or array.ndim != rank):
            raise ValueError(
                f"`{name}` must be of type {np.dtype(dtype)} and have {rank} dimensions. "
                f"Received: {name}.dtype={array.dtype}, {name}.shape={array.shape}"
            )


def _check_shapes(
    x: np.ndarray, filters: np.ndarray, multiplier: np.ndarray, bias: np.ndarray, groups: int
) -> None:
    kh, kw, inputs, outputs = filters.shape
    fits = x.shape[3] == inputs * groups and outputs % groups == 0
    if not fits or not 0 < kh * kw * inputs <= MOST_TERMS:
        raise ValueError(
            "`filters` must have x's channels / groups inputs, outputs a multiple of groups, and "
            f"at most {MOST_TERMS} terms. Received: x.shape={x.shape}, "
            f"filters.shape={filters.shape}, groups={groups}"
        )
    if multiplier.shape != (outputs,) or bias.shape != (outputs,):
        raise ValueError(
            "`multiplier` and `bias` must have a number for each output. Received: "
            f"multiplier.shape={multiplier.shape}, bias.shape={bias.shape}, outputs={outputs}"
        )


def _check_numbers(shift: int, zero: int, low: int, high: int, bias: np.ndarray) -> None:
    in_range = LEAST <= low <= high <= MOST and LEAST <= zero <= MOST
    if not in_range or not 1 <= shift <= MOST_SHIFT or (np.abs(bias) > MOST_BIAS).any():
        raise ValueError(
            f"`shift` must be from 1 to {MOST_SHIFT}, `zero` and `low <= high` from {LEAST} to "
            f"{MOST}, |bias| at most 2**61. Received: shift={shift}, zero={zero}, low={low}, "
            f"high={high}, largest |bias|={np.abs(bias).max()}"
        )
