"""The padded and grouped tensors that both passes work with."""

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, pad_image
from pkkd_tf.ops.layer import Layer


class FusibleLayer(Layer):
    """A layer with its tensors.

    Attributes:
        taps: their number.
        images: tensor (batch, *padded, groups, inputs) of type `dtype`.
        filters: tensor (taps, inputs, groups, outputs) of that type.
    """

    def __init__(self, x: tf.Tensor, filters: tf.Tensor, geometry: Geometry):
        super().__init__(x, filters, geometry)
        self.taps = self.kernel[0] * self.kernel[1]
        images, filters = (tf.cast(t, self.dtype) for t in (x, filters))
        grouped = [self.batch, *self.padded, self.groups, self.inputs]
        self.images = tf.reshape(pad_image(images, self.pads), grouped)
        self.filters = tf.reshape(filters, [-1, self.inputs, self.groups, self.outputs])
