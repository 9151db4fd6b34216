"""Batch normalization by one operation in the forward pass and one in the backward pass."""

from typing import Any

import keras
import tensorflow as tf

TYPES = ("float32", "float16", "bfloat16")


class SharedLayer(keras.layers.Layer):
    """Calls a layer without becoming a part of what Keras knows of it, its inputs and outputs.

    Args:
        layer: any Keras layer.
    """

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.supports_masking = True  # else Keras warns of masks that the layer takes
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer does."""
        return self.layer(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Nothing: the layer's outputs carry what it makes of masks."""

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the layer says of itself; its call need not be traced."""
        return self.layer.compute_output_spec(*args, **kwargs)


class FusedBatchNorm(SharedLayer):
    """A network's batch normalization, trained by TensorFlow's fused operation.

    The same numbers as `keras.layers.BatchNormalization`, up to rounding: with the batch's mean
    and (biased) variance

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta
        moving mean and variance <- momentum * moving + (1 - momentum) * the batch's

    Keras computes them by some twenty operations, each of which reads or writes a whole activation.
    The variables stay the given layer's, which does the rest itself: inference, frozen layers.

    Args:
        layer: one that `can_be_fused`.

    Input shape:
        (N, H, W, C), float32, float16 or bfloat16.

    Output shape:
        The input's.

    Example:
        >>> FusedBatchNorm(model.get_layer("stem_norm"))(images, training=True)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        """Normalises by the batch's statistics, and moves the layer's, where it is trained."""
        norm = self.layer
        if not (training and norm.trainable) or mask is not None:
            return norm(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        moving = norm.moving_mean, norm.moving_variance
        before = [tf.cast(tf.convert_to_tensor(v), tf.float32) for v in moving]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            *_scale_and_offset(norm, channels),
            *before,
            epsilon=norm.epsilon,
            exponential_avg_factor=1.0 - norm.momentum,
        )
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance = _biased(variance, before[1], norm.momentum, count)
        moved = _unless_empty(inputs, [mean, variance], before)
        for variable, value in zip(moving, moved):
            variable.assign(tf.cast(tf.stop_gradient(value), variable.dtype))
        return outputs


def _scale_and_offset(norm: Any, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Gamma and beta, float32; ones and zeros where the layer has none."""
    gamma = norm.gamma if norm.scale else tf.ones([channels])
    beta = norm.beta if norm.center else tf.zeros([channels])
    return tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)


def _biased(moved: tf.Tensor, before: tf.Tensor, momentum: float, count: tf.Tensor) -> tf.Tensor:
    """The moving variance as Keras moves it, by the biased variance of `count` numbers.

        moved = momentum * before + (1 - momentum) * count / (count - 1) * biased
        momentum * before + (1 - momentum) * biased
            = moved * (1 - 1 / count) + before * momentum / count

    `moved` is what the fused operation gives.
    """
    return moved * (1 - 1 / count) + before * (momentum / count)


def _unless_empty(
    inputs: tf.Tensor, moved: list[tf.Tensor], before: list[tf.Tensor]
) -> list[tf.Tensor]:
    """`moved`; `before` where there are no `inputs`, as in a replica's part: no statistics."""
    if inputs.shape[0]:  # known to be above 0
        return moved
    found = tf.size(inputs) > 0
    return [tf.where(found, after, kept) for after, kept in zip(moved, before)]


def fused(model: keras.Model) -> keras.Model:
    """The functional `model`, its layers shared, its batch normalization fused where it can be."""

    def shared(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):  # a bare operation, as of `a + b`
            return type(layer).from_config(layer.get_config())
        return FusedBatchNorm(layer) if can_be_fused(layer) else SharedLayer(layer)

    return keras.models.clone_model(model, clone_function=shared)


def can_be_fused(layer: Any) -> bool:
    """Whether `layer` normalises the last of four axes by one replica's own, plain statistics."""
    if type(layer) is not keras.layers.BatchNormalization or layer.synchronized:
        return False
    of_images = layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    return of_images and not layer.renorm and layer.compute_dtype in TYPES
