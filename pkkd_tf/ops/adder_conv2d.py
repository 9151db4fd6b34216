"""The adder response of a layer, with AdderNet's own gradients."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pkkd_tf.ops import l2, paths
from pkkd_tf.ops.filter_gradient import filter_gradient
from pkkd_tf.ops.geometry import Geometry, Padding, make_geometry

INPUT_GRADIENTS = ("clipped", "sign")
DTYPES = (tf.float32, tf.bfloat16, tf.float16, tf.float64)


@tf.autograph.experimental.do_not_convert
def adder_conv2d(
    x: Any,
    filters: Any,
    strides: Any = 1,
    padding: Padding = "VALID",
    dilations: Any = 1,
    groups: int = 1,
    input_gradient: str = "clipped",
    l2_weight: Any = None,
) -> tf.Tensor:
    """Adder response: the negative L1 distance between image windows and filters.

        Y(m,n,t) = -sum_{i,j,k} |X(m+i, n+j, k) - F(i,j,k,t)|                      (always <= 0)

    Source: Chen et al., "AdderNet: Do We Really Need Multiplications in Deep Learning?", CVPR
    2020, arXiv 1912.13200. A zero-padded tap counts: it contributes `-|F|`.

    The gradients are the ones of that paper and deliberately not the derivatives:

        dL/dF = sum (X - F) dL/dY                                       ("full precision")
        dL/dX = sum_t HT(F - X) dL/dY,      HT(z) = clamp(z, -1, 1)     ("clipped", the default)
        dL/dX = sum_t sign(F - X) dL/dY                                 ("sign")

    With `w = l2_weight > 0` the response is a mixture with half the squared l2 distance, whose
    derivatives are X - F and F - X: the filters' gradient is the same for every `w`.

        Y     = -(1 - w) sum |X - F| - w / 2 sum (X - F)^2
        dL/dX = sum_t ((1 - w) HT(F - X) + w (F - X)) dL/dY             (or sign for HT)

    Args:
        x: images, tensor (N, H, W, C) of float32, bfloat16, float16 or float64. Sums accumulate
            in float32 (float64 for float64). N, H and W may be unknown, N may be 0.
        filters: tensor (kh, kw, C / groups, O) of the same type. Output channel `o` looks at
            group `o // (O / groups)` of the input channels.
        strides: integer or pair (height, width), pixels.
        padding: `"SAME"` (as TensorFlow pads: at stride 2 on even sizes right and bottom only),
            `"VALID"`, or zero pixels `((top, bottom), (left, right))`.
        dilations: integer or pair, pixels from tap to tap.
        groups: number of channel groups; `C` means depthwise.
        input_gradient: `"clipped"` or `"sign"`.
        l2_weight: number or scalar tensor in [0, 1] through which no gradient flows; None: 0. At
            0 nothing of the l2 part is computed. `pkkd_tf.layers.anneal_l2` says what it is for.

    Returns:
        Tensor (N, P, Q, O) of the type of `x`: `P = (H + top + bottom - dilation * (kh - 1) - 1)
        // stride + 1`, or `ceil(H / stride)` with `"SAME"`.

    Raises:
        ValueError: a rank, type, channel number, stride, padding, dilation, group count or weight
            does not fit; the message names the values received.

    Example:
        >>> x = tf.random.normal([8, 32, 32, 16])
        >>> f = tf.random.normal([3, 3, 16, 32])
        >>> adder_conv2d(x, f, strides=2, padding=((1, 1), (1, 1))).shape
        TensorShape([8, 16, 16, 32])

    Limits: derivatives of these gradients on the path `"reference"` alone. Which code computes it,
    and how fast: `pkkd_tf.ops.paths`.
    """
    geometry = make_geometry(strides, padding, dilations, groups)
    x, filters = tf.convert_to_tensor(x), tf.convert_to_tensor(filters)
    _check_tensors(x, filters, geometry)
    if input_gradient not in INPUT_GRADIENTS:
        raise ValueError(
            f"`input_gradient` must be one of {INPUT_GRADIENTS}. "
            f"Received: input_gradient={input_gradient!r}"
        )
    weight = None if l2_weight is None else _check_weight(l2_weight)
    path = paths.path_for(x.dtype)

    @tf.custom_gradient
    def response(x: tf.Tensor, filters: tf.Tensor) -> Any:
        def gradients(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([dy]):  # else `x` is padded, and kept, in the forward pass
                dx = path.input_gradient(x, filters, dy, geometry, input_gradient)
                dx = _mixed(weight, dx, lambda: l2.input_gradient(x, filters, dy, geometry))
                return dx, filter_gradient(x, filters, dy, geometry)

        y = path.forward(x, filters, geometry, input_gradient)
        return _mixed(weight, y, lambda: l2.response(x, filters, geometry)), gradients

    return response(x, filters)


def _mixed(weight: tf.Tensor | None, l1: tf.Tensor, l2_part: Callable[[], tf.Tensor]) -> tf.Tensor:
    """`(1 - w) * l1 + w * l2_part()` in the type of `l1`; `l1` itself where `w` is 0."""
    if weight is None:
        return l1

    def mixture() -> tf.Tensor:
        second = l2_part()
        w = tf.cast(weight, second.dtype)
        return tf.cast((1 - w) * tf.cast(l1, w.dtype) + w * second, l1.dtype)

    return tf.cond(weight > 0, mixture, lambda: l1)


def _check_weight(weight: Any) -> tf.Tensor:
    if not tf.is_tensor(weight) and not 0 <= weight <= 1:
        raise ValueError(f"`l2_weight` must be in [0, 1]. Received: l2_weight={weight!r}")
    return tf.stop_gradient(tf.convert_to_tensor(weight))


def _check_tensors(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> None:
    if x.shape.rank != 4 or filters.shape.rank != 4 or not filters.shape.is_fully_defined():
        raise ValueError(
            "`x` must have 4 dimensions (batch, height, width, channels) and `filters` 4 known ones"
            " (height, width, channels / groups, outputs). "
            f"Received: x.shape={x.shape}, filters.shape={filters.shape}"
        )
    if x.dtype not in DTYPES or filters.dtype != x.dtype:
        raise ValueError(
            f"`x` and `filters` must have one type out of {[d.name for d in DTYPES]}. "
            f"Received: x.dtype={x.dtype.name}, filters.dtype={filters.dtype.name}"
        )
    _check_channels(x, filters, geometry.groups)
    _check_window(x, filters, geometry)


def _check_channels(x: tf.Tensor, filters: tf.Tensor, groups: int) -> None:
    if x.shape[3] is None or x.shape[3] != filters.shape[2] * groups or filters.shape[2] == 0:
        raise ValueError(
            "The number of input channels must equal `filters`' third dimension times `groups`. "
            f"Received: x.shape={x.shape}, filters.shape={filters.shape}, groups={groups}"
        )
    if filters.shape[3] % groups or filters.shape[3] == 0:
        raise ValueError(
            "The number of output channels must be a positive multiple of `groups`. "
            f"Received: filters.shape={filters.shape}, groups={groups}"
        )


def _check_window(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> None:
    if None in x.shape[1:3]:
        return
    pads = geometry.pads(x.shape[1:3], filters.shape[:2])
    padded = [size + sum(pad) for size, pad in zip(x.shape[1:3], pads)]
    if 0 in geometry.output_size(padded, filters.shape[:2]) or 0 in filters.shape[:2]:
        raise ValueError(
            "The window must fit into the padded image at least once. Received: "
            f"x.shape={x.shape}, filters.shape={filters.shape}, padding={geometry.padding}, "
            f"dilations={geometry.dilations}"
        )
