"""The l2 response of a window and its input gradient, by plain convolutions.

`pkkd_tf.ops.adder_conv2d` mixes it in where a layer is annealed from l2 to l1.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, pad_image, static_or_dynamic_shape
from pkkd_tf.ops.layer import accumulator


@tf.autograph.experimental.do_not_convert
def response(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Half the negative squared l2 distance between image windows and filters.

        Y(m,n,t) = -1/2 sum_{i,j,k} (X(m+i, n+j, k) - F(i,j,k,t))^2
                 = (X * F)(m,n,t) - (X^2 * 1)(m,n) / 2 - |F(t)|^2 / 2

    A zero-padded tap counts as `X = 0`, as in the adder response.

    Args:
        x: images (N, H, W, C).
        filters: (kh, kw, C / groups, O).
        geometry: the sliding window.

    Returns:
        Tensor (N, P, Q, O), float32 (float64 for float64 inputs).

    Limits: where `x` and `f` are much larger than their difference it drowns in rounding, which
    is relative to the squares, 2^-11 of them where a GPU multiplies in TF32, as by default from
    compute capability 8.0 on. Differentiable; `input_gradient` costs less.
    """
    products = _Windows(x, filters, geometry).products()
    return products - squared_norms(x, filters, geometry) / 2


@tf.autograph.experimental.do_not_convert
def squared_norms(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """`(X^2 * 1)(m,n) + |F(t)|^2`, arguments and result as of `response`; differentiable."""
    windows = _Windows(x, filters, geometry)
    return windows.squares() + tf.reduce_sum(windows.f**2, [0, 1, 2])


@tf.autograph.experimental.do_not_convert
def input_gradient(
    x: tf.Tensor, filters: tf.Tensor, gradient: tf.Tensor, geometry: Geometry
) -> tf.Tensor:
    """`dX = sum_t (F - X) dY`, the derivative of `response`; its type, the shape of `x`.

    Args:
        x: images (N, H, W, C).
        filters: (kh, kw, C / groups, O).
        gradient: `dL/dY` (N, P, Q, O).
        geometry: the sliding window.
    """
    windows = _Windows(x, filters, geometry)
    return windows.unpad(windows.transposed_products(tf.cast(gradient, windows.f.dtype)))


class _Windows:
    """The windows of a batch of images: products with filters, sums, and their transposes."""

    def __init__(self, x: tf.Tensor, filters: tf.Tensor, geometry: Geometry):
        dtype = accumulator(x.dtype)
        self.geometry, self.f = geometry, tf.cast(filters, dtype)
        kh, kw, self.inputs, self.outputs = filters.shape
        self.taps = [(i, j) for i in range(kh) for j in range(kw)]
        self.size = static_or_dynamic_shape(x)
        self.pads = geometry.pads(self.size[1:3], (kh, kw))
        self.x = pad_image(tf.cast(x, dtype), self.pads)
        self.padded = static_or_dynamic_shape(self.x)
        self.places = [self.size[0], *geometry.output_size(self.padded[1:3], (kh, kw))]
        self.stock = geometry.groups == 1 and geometry.dilations == (1, 1)

    def products(self) -> tf.Tensor:
        """`X * F`, the convolution (N, P, Q, O)."""
        if self.stock:
            return tf.nn.conv2d(self.x, self.f, self.geometry.strides, "VALID")
        grouped = [*self.places, self.geometry.groups, self.inputs]
        parts = [
            tf.einsum("npqgc,cgo->npqgo", tf.reshape(window, grouped), f)
            for window, f in zip(self._at_taps(self.x), self._grouped_filters())
        ]
        return tf.reshape(tf.add_n(parts), [*self.places, self.outputs])

    def squares(self) -> tf.Tensor:
        """`X^2 * 1`, over each output's group of channels: (N, P, Q, O)."""
        squares = tf.reduce_sum(self._in_groups(self.x**2), 4)
        sums = tf.add_n(list(self._at_taps(squares)))
        return tf.repeat(sums, self.outputs // self.geometry.groups, axis=3)

    def transposed_products(self, dy: tf.Tensor) -> tf.Tensor:
        """`sum_t (F - X) dY` at every pixel, padding included."""
        by_group = [*self.places, self.geometry.groups, self.outputs // self.geometry.groups]
        grouped = tf.reshape(dy, by_group)
        uses = self._spread([tf.reduce_sum(grouped, 4)] * len(self.taps), self.geometry.groups)
        pulled = tf.reshape(self._in_groups(self.x) * uses[..., None], self.padded)
        return self._by_filters(dy, grouped) - pulled

    def unpad(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels without the padding."""
        (top, _), (left, _) = self.pads
        return tf.slice(pixels, [0, top, left, 0], self.size)

    def _by_filters(self, dy: tf.Tensor, grouped: tf.Tensor) -> tf.Tensor:
        if self.stock:
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=self.padded,
                filter=self.f,
                out_backprop=dy,
                strides=[1, *self.geometry.strides, 1],
                padding="VALID",
            )
        channels = self.geometry.groups * self.inputs
        parts = [tf.einsum("npqgo,cgo->npqgc", grouped, f) for f in self._grouped_filters()]
        return self._spread([tf.reshape(p, [*self.places, channels]) for p in parts], channels)

    def _in_groups(self, pixels: tf.Tensor) -> tf.Tensor:
        return tf.reshape(pixels, [*self.padded[:3], self.geometry.groups, self.inputs])

    def _grouped_filters(self) -> Iterator[tf.Tensor]:
        """Each tap's filters (C / groups, groups, O / groups)."""
        outputs = self.outputs // self.geometry.groups
        for i, j in self.taps:
            yield tf.reshape(self.f[i, j], [self.inputs, self.geometry.groups, outputs])

    def _slices(self) -> Iterator[dict[str, Any]]:
        """Where each tap looks: arguments of a strided slice."""
        strides = self.geometry.strides
        for tap in self.taps:
            begin = [i * dilation for i, dilation in zip(tap, self.geometry.dilations)]
            end = [b + (n - 1) * s + 1 for b, n, s in zip(begin, self.places[1:], strides)]
            yield {
                "begin": [0, *begin],
                "end": [self.places[0], *end],
                "strides": [1, *strides],
            }

    def _at_taps(self, pixels: tf.Tensor) -> Iterator[tf.Tensor]:
        """The pixels under every tap: (N, P, Q, channels) each."""
        for where in self._slices():
            yield tf.strided_slice(pixels, **where)

    def _spread(self, at_taps: list[tf.Tensor], channels: int) -> tf.Tensor:
        """The transpose of `_at_taps`: values added up at their pixels."""
        shape = [*self.padded[:3], channels]
        parts = [
            tf.raw_ops.StridedSliceGrad(shape=shape, dy=values, **where)
            for values, where in zip(at_taps, self._slices())
        ]
        return tf.add_n(parts)
