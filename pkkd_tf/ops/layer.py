"""A layer and its images, as the forms in stock operations see them: sizes and types."""

from typing import Any

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, static_or_dynamic_shape


class Layer:
    """Sizes of `adder_conv2d`'s arguments: integers where known, scalar tensors elsewhere.

    Attributes:
        geometry: the sliding window.
        dtype: the type that sums accumulate in.
        kernel: taps (height, width).
        groups: of channels.
        inputs: channels of a group.
        outputs: of a group.
        batch: images.
        size: their pixels (height, width).
        pads: zero pixels ((top, bottom), (left, right)).
        padded: pixels (height, width) with them.
        output: size of the response (height, width).
    """

    def __init__(self, x: tf.Tensor, filters: tf.Tensor, geometry: Geometry):
        self.geometry, self.groups = geometry, geometry.groups
        self.dtype = accumulator(x.dtype)
        *self.kernel, self.inputs, outputs = filters.shape
        self.outputs = outputs // geometry.groups
        self.batch, *self.size, _ = static_or_dynamic_shape(x)
        self.pads = geometry.pads(self.size, self.kernel)
        self.padded: list[Any] = [sum(pad) + size for pad, size in zip(self.pads, self.size)]
        self.output = geometry.output_size(self.padded, self.kernel)


def accumulator(dtype: tf.DType) -> tf.DType:
    """The type that sums of `dtype` accumulate in: float64 for float64, float32 otherwise."""
    return tf.float64 if dtype == tf.float64 else tf.float32
