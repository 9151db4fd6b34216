"""Similarity kernels of responses, normalised features, and what is measured of them."""

import math
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.layers.common import PACKAGE

EPSILON = 1e-5


@keras.saving.register_keras_serializable(package=PACKAGE)
class SimilarityKernel(keras.layers.Layer):
    """`exp(sign * u / (2 sigma^2))` of a layer's response, sigma > 0 trained as its logarithm.

    Trained is `log_width = log(2 sigma^2 / initial_width)`, 0 at the start, so that weight decay
    pulls to the start and not to exponents that are clipped, where no gradient is left.

    Args:
        sign: +1 or -1.
        initial_width: float > 0, where `2 sigma^2` starts; near the fan-in for raw responses.
        bound: float > 0, the exponent is clipped to `[-bound, bound]` so that it neither
            underflows nor overflows in float32. A clipped exponent passes no gradient on.
        trainable, name, dtype: as in `keras.layers.Layer`.

    Input shape:
        Any.

    Output shape:
        The input's.

    Raises:
        ValueError: `initial_width` is not above 0.

    Example:
        >>> SimilarityKernel(sign=1, initial_width=144.0)(tf.constant([-144.0]))   # exp(-1)
    """

    def __init__(
        self, sign: int = 1, initial_width: float = 2.0, bound: float = 10.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if initial_width <= 0:
            raise ValueError(
                f"`initial_width` must be above 0. Received: initial_width={initial_width}"
            )
        self.sign, self.initial_width, self.bound = sign, initial_width, bound
        self.log_width = self.add_weight(shape=(), initializer="zeros", name="log_width")

    def width(self) -> tf.Tensor:
        """`2 sigma^2`."""
        return self.initial_width * tf.exp(tf.convert_to_tensor(self.log_width))

    def exponent(self, responses: Any) -> tf.Tensor:
        """`sign * u / (2 sigma^2)`, not clipped."""
        return responses * (self.sign / self.width())

    def call(self, responses: Any) -> tf.Tensor:
        """Returns the similarities, in `[exp(-bound), exp(bound)]`."""
        exponents = self.exponent(responses)
        bound = tf.constant(self.bound, exponents.dtype)
        return clipped_exponential(exponents, -bound, bound, tf.zeros_like(bound))

    def of_normalised(self, responses: tf.Tensor) -> tf.Tensor:
        """`2 sigma^2 exp(sign * u / (2 sigma^2))` of `u = normalise(responses)`.

        Factor and width are part of the normalization, which costs nothing more.
        """
        log_width, factor = tf.convert_to_tensor(self.log_width), math.log(self.initial_width)
        slope = tf.exp(-log_width) * tf.fill(responses.shape[-1:], self.sign / self.initial_width)
        logarithm = factor + log_width
        held = tf.stop_gradient(logarithm)
        exponents = normalise(responses, slope, held + tf.zeros(responses.shape[-1:]))
        return clipped_exponential(exponents, held - self.bound, held + self.bound, logarithm)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        own = {"sign": self.sign, "initial_width": self.initial_width, "bound": self.bound}
        return {**super().get_config(), **own}


def normalise(x: tf.Tensor, scale: Any = None, offset: Any = None) -> tf.Tensor:
    """`(x - mean) / sqrt(variance + 1e-5)` per channel over the batch (N, H, W, C), float32.

    Differentiated through the mean and the variance: with them held constant the filters' RMS
    was seen to run away. `scale` and `offset`, one a channel, are 1 and 0 unless given.
    """
    scale = tf.ones(x.shape[-1:]) if scale is None else scale
    offset = tf.zeros(x.shape[-1:]) if offset is None else offset
    return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=EPSILON)[0]


@tf.custom_gradient
def clipped_exponential(x: tf.Tensor, least: Any, most: Any, logarithm: tf.Tensor) -> tf.Tensor:
    """`exp(min(max(x, least), most))`; what is clipped gets no gradient.

    `logarithm` is that of a factor which is in `x` and in the bounds already; its gradient is.
    """
    clipped = tf.minimum(tf.maximum(x, least), most)  # NaN stays, by XLA too
    y = tf.exp(clipped)

    def backward(upstream: tf.Tensor) -> tuple[Any, ...]:
        slope = upstream * y
        inside = tf.where(tf.equal(x, clipped), slope, tf.zeros([], x.dtype))
        return inside, None, None, tf.reduce_sum(slope)

    return y, backward


def similarity(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Mean product of two normalised feature maps: their correlation, in [-1, 1]."""
    return tf.reduce_mean(student * teacher)


def effective_rank(features: tf.Tensor) -> tf.Tensor:
    """Participation ratio `tr(C)^2 / tr(C^2)` of the channels' covariance `C`, 1 .. channels.

    1.0 says that all channels carry one and the same map: the collapse that a feature loss with
    trainable transforms on both sides was measured to end in.

    Args:
        features: tensor (N, H, W, C), centred per channel.

    Returns:
        Scalar float32.
    """
    rows = tf.reshape(features, [-1, features.shape[-1]])
    covariance = tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], rows.dtype)
    return tf.linalg.trace(covariance) ** 2 / (tf.reduce_sum(covariance**2) + 1e-12)
