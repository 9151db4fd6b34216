"""Sizes and padded tensors that both passes work with."""

from typing import Any, NamedTuple

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, pad_image, static_or_dynamic_shape


class Layer(NamedTuple):
    """One layer and its input; sizes are scalar tensors where they are unknown.

    Attributes:
        geometry: its window.
        kernel: taps (height, width).
        inputs: channels of a group.
        outputs: of a group.
        batch: images.
        pads: zero pixels ((top, bottom), (left, right)).
        padded: size of the padded images.
        output: size of the response.
        images: tensor (batch, *padded, groups, inputs) of the type that sums accumulate in.
        filters: tensor (taps, inputs, groups, outputs) of that type.
    """

    geometry: Geometry
    kernel: tuple[int, int]
    inputs: int
    outputs: int
    batch: Any
    pads: Any
    padded: list[Any]
    output: tuple[Any, Any]
    images: tf.Tensor
    filters: tf.Tensor

    @property
    def groups(self) -> int:
        """Of channels."""
        return self.geometry.groups

    @property
    def taps(self) -> int:
        """Their number."""
        return self.kernel[0] * self.kernel[1]


def make_layer(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> Layer:
    """The layer of `adder_conv2d`'s arguments."""
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    *kernel, inputs, outputs = filters.shape
    outputs //= geometry.groups
    batch, height, width, _ = static_or_dynamic_shape(x)
    pads = geometry.pads((height, width), kernel)
    padded = [size + sum(pad) for size, pad in zip((height, width), pads)]
    images = pad_image(tf.cast(x, dtype), pads)
    return Layer(
        geometry,
        tuple(kernel),
        inputs,
        outputs,
        batch,
        pads,
        padded,
        geometry.output_size(padded, kernel),
        tf.reshape(images, [batch, *padded, geometry.groups, inputs]),
        tf.reshape(tf.cast(filters, dtype), [-1, inputs, geometry.groups, outputs]),
    )
