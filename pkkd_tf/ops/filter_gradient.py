"""The filter gradient of the adder response, on the convolution's own backward pass."""

from typing import Any

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, pad_image, static_or_dynamic_shape
from pkkd_tf.ops.layer import accumulator


@tf.autograph.experimental.do_not_convert
def filter_gradient(
    x: tf.Tensor, filters: tf.Tensor, gradient: tf.Tensor, geometry: Geometry
) -> tf.Tensor:
    """The "full-precision" filter gradient `dF = sum_p (X - F) dY` of AdderNet.

    It needs no adder kernel: `dF = conv2d_backprop_filter(X, dY) - F * sum_p dY`, exactly, padded
    taps (`X = 0`) included. Accumulates in float32 (float64 for float64 inputs). GPUs from compute
    capability 8.0 on round `X` and `dY` to TF32 (11 bits) as in every convolution, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` was called.

    Args:
        x: images (N, H, W, C).
        filters: (kh, kw, C / groups, O).
        gradient: `dL/dY` (N, P, Q, O).
        geometry: the sliding window.

    Returns:
        `dL/dF`, shape and type of `filters`.
    """
    dtype = accumulator(x.dtype)
    x, f, dy = (tf.cast(t, dtype) for t in (x, filters, gradient))
    backprop = _stock if geometry.groups == 1 and geometry.dilations == (1, 1) else _by_taps
    df = backprop(x, f.shape, dy, geometry) - f * tf.reduce_sum(dy, axis=[0, 1, 2])
    return tf.cast(df, filters.dtype)


def _stock(x: tf.Tensor, shape: tf.TensorShape, dy: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    padding, strides = geometry.padding, geometry.strides
    if not isinstance(padding, str):  # the operation's own explicit padding was 2 to 4 times slower
        x, padding = pad_image(x, padding), "VALID"
    if tuple(shape[:2]) == (1, 1) and strides != (1, 1):
        # Windows of one pixel: what the strides pass over is left out. TensorFlow 2.21's operation
        # writes past its buffers on a processor for these with strides and few channels.
        return _by_pixels(_strided(x, strides), shape, dy)
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=shape,
        out_backprop=dy,
        strides=[1, *strides, 1],
        padding=padding,
    )


def _by_pixels(x: tf.Tensor, shape: tf.TensorShape, dy: tf.Tensor) -> tf.Tensor:
    """One product for windows of one pixel, all of which are used."""
    x, dy = tf.reshape(x, [-1, shape[2]]), tf.reshape(dy, [-1, shape[3]])
    return tf.reshape(tf.linalg.matmul(x, dy, transpose_a=True), shape)


def _strided(x: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
    """`x[:, ::strides[0], ::strides[1]]`, of which TensorFlow makes four times as much work."""
    for axis, stride in enumerate(strides, 1):
        size = static_or_dynamic_shape(x)[axis]
        x = x if stride == 1 else tf.gather(x, tf.range(0, size, stride), axis=axis)
    return x


def _by_taps(x: tf.Tensor, shape: tf.TensorShape, dy: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """One product a tap: the stock CPU kernel knows neither groups nor dilations here."""
    _, height, width, _ = static_or_dynamic_shape(x)
    x = pad_image(x, geometry.pads((height, width), shape[:2]))
    kh, kw, inputs, outputs = shape
    batch, rows, columns, _ = static_or_dynamic_shape(dy)
    dy = tf.reshape(dy, [batch, rows, columns, geometry.groups, outputs // geometry.groups])

    def at_tap(i: int, j: int) -> tf.Tensor:
        begin = (i * geometry.dilations[0], j * geometry.dilations[1])
        ends: Any = [
            b + (n - 1) * s + 1 for b, n, s in zip(begin, (rows, columns), geometry.strides)
        ]
        (sh, sw) = geometry.strides
        window = x[:, begin[0] : ends[0] : sh, begin[1] : ends[1] : sw]
        window = tf.reshape(window, [batch, rows, columns, geometry.groups, inputs])
        product = tf.einsum("npqgc,npqgo->cgo", window, dy)
        return tf.reshape(product, [inputs, outputs])

    taps = [at_tap(i, j) for i in range(kh) for j in range(kw)]
    return tf.reshape(tf.stack(taps), shape)
