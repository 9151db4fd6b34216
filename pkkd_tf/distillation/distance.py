"""What the RBF kernel sees of a convolution: squared l2 distances, out of its own response."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.ops import l2
from pkkd_tf.ops.geometry import make_geometry

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class SquaredDistance(keras.layers.Layer):
    """The negative squared l2 distance of a convolution's windows and filters.

        -||x - f||^2 = 2 x * f - x^2 * 1 - |f|^2

    `x * f` is the convolution's own response less its bias, and `x^2 * 1` sums the squared inputs
    of each window: no window is copied, and nothing is convolved again. A zero-padded tap counts
    as `x = 0`. Differentiable in inputs, response and filters.

    Args:
        layer: built `keras.layers.Conv2D` or `DepthwiseConv2D` without activation.
        **kwargs: `name`, `dtype` of `keras.layers.Layer`.

    Input shape:
        The inputs of `layer` (N, H, W, C), and its outputs (N, P, Q, O); or channels first.

    Output shape:
        The second one's.

    Raises:
        ValueError: a layer of another kind, or with an activation.

    Example:
        >>> teacher = pkkd_tf.models.build("digits_resnet", "convolution")
        >>> layer = teacher.get_layer("stage1_block1_conv1")
        >>> distances = SquaredDistance(layer)(layer.input, layer.output)

    Limits: where `|x|` and `|f|` are much larger than their difference it drowns in rounding.
    """

    def __init__(self, layer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        activation = getattr(layer, "activation", None)
        if type(layer) not in CONVOLUTIONS or activation not in (None, keras.activations.linear):
            raise ValueError(
                "With the RBF kernel a matched layer of the teacher must be a Conv2D or "
                "DepthwiseConv2D without activation. Received: "
                f"layer={layer.name!r} of class {type(layer).__name__}, activation={activation}"
            )
        self._layer = lambda: layer  # behind a function: its weights are not this layer's

    def call(self, images: Any, responses: Any) -> tf.Tensor:
        """Returns the negative squared distances."""
        layer = self._layer()
        first = layer.data_format == "channels_first"
        norms = _norms(layer, tf.transpose(images, [0, 2, 3, 1]) if first else images)
        return 2 * responses - (tf.transpose(norms, [0, 3, 1, 2]) if first else norms)


def distance_of(layer: Any, images: Any, responses: Any) -> Any:
    """The symbolic negative squared distances (float32) of a convolution, its input and output."""
    return SquaredDistance(layer, dtype="float32")(images, responses)


def _norms(layer: Any, images: tf.Tensor) -> tf.Tensor:
    """`x^2 * 1 + |f|^2 + 2 bias`, channels last."""
    groups = getattr(layer, "groups", 1)
    filters = tf.cast(tf.convert_to_tensor(layer.kernel), images.dtype)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kh, kw, groups, multiplier = filters.shape
        filters = tf.reshape(filters, [kh, kw, 1, groups * multiplier])
    geometry = make_geometry(layer.strides, layer.padding.upper(), layer.dilation_rate, groups)
    norms = l2.squared_norms(images, filters, geometry)
    return norms if layer.bias is None else norms + 2 * tf.cast(layer.bias.value, norms.dtype)
