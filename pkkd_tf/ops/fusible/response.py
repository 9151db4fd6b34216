"""The forward pass."""

from typing import Any

import tensorflow as tf

from pkkd_tf.ops.fusible.chain import chain
from pkkd_tf.ops.fusible.layer import FusibleLayer
from pkkd_tf.ops.geometry import Geometry


@tf.autograph.experimental.do_not_convert
def forward(
    x: tf.Tensor, filters: tf.Tensor, geometry: Geometry, mode: str = "clipped"
) -> tf.Tensor:
    """`Y(m,n,t) = -sum_{i,j,k} |X(m+i, n+j, k) - F(i,j,k,t)|`, as `reference.forward`."""
    layer = FusibleLayer(x, filters, geometry)

    def add(total: tf.Tensor, tap: Any, first: Any, count: int) -> tf.Tensor:
        pixels = _pixels(layer, tap, first, count)
        f = tf.slice(layer.filters, [tap, first, 0, 0], [1, count, layer.groups, layer.outputs])[0]
        terms = tf.zeros_like(total)  # one chain of all would round many times more
        for k in range(count):
            terms += tf.abs(pixels[..., k : k + 1] - f[k])
        return total + terms

    shape = [layer.batch, *layer.output, layer.groups, layer.outputs]
    total = chain(add, tf.zeros(shape, layer.dtype), layer.taps, layer.inputs)
    return tf.cast(-tf.reshape(total, [*shape[:3], filters.shape[3]]), x.dtype)


def _pixels(layer: FusibleLayer, tap: Any, first: Any, count: int) -> tf.Tensor:
    """`count` channels of the pixels under a tap, as (batch, *output, groups, count)."""
    strides, dilations = layer.geometry.strides, layer.geometry.dilations
    width = layer.kernel[1]
    i, j = tap // width * dilations[0], tap % width * dilations[1]
    span = [(size - 1) * stride + 1 for size, stride in zip(layer.output, strides)]
    size = [layer.batch, *span, layer.groups, count]
    return tf.slice(layer.images, [0, i, j, 0, first], size)[:, :: strides[0], :: strides[1]]
