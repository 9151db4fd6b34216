"""RandAugment out of Keras' augmentation layers, with all draws a function of a key."""

import keras
import tensorflow as tf

from pkkd_tf.data.layer_options import LAYER_OPTIONS, float32_by_default
from pkkd_tf.data.randomness import StatelessSeeds, fold

_FILL = {"fill_mode": "constant", "fill_value": 128.0, **LAYER_OPTIONS}


class RandAugment:
    """Applies two operations, drawn for each image, one after the other.

    RandAugment (Cubuk et al., arXiv 1909.13719) with its 14 operations, each of a random strength
    up to `magnitude` times its maximum: rotation 30 degrees, shear 0.3, translation 0.3 of the
    size, colour, contrast, brightness and sharpness 0.9, posterising to 4 bits. Solarising draws
    its threshold from the whole range.

    `keras.layers.RandAugment` itself is not used: it draws the operations once for a batch,
    computes all of them to keep one, and its single `factor` makes weak settings strong (0.1 keeps
    1 bit in posterising and always blurs), while its default turns by up to 180 degrees.

    Args:
        magnitude: float in 0..1.
        num_operations: int. Operations applied to each image.
    """

    def __init__(self, magnitude: float = 0.3, num_operations: int = 2):
        self.num_operations = num_operations
        self._seeds = StatelessSeeds()
        self._layers = _operations(magnitude)
        for layer in self._layers:
            layer.generator = self._seeds

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Augments float images of shape (batch, height, width, 3) with values in 0..255."""
        keys = tf.random.split(key, tf.shape(images)[0])
        augmented = tf.map_fn(
            lambda pair: self._augment_one(*pair),
            (images, keys),
            fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32),
        )
        return tf.ensure_shape(augmented, images.shape)

    def _augment_one(self, image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        batch = image[tf.newaxis]
        for i in range(self.num_operations):
            # The branch after the layers is the identity.
            chosen = tf.random.stateless_uniform(
                [], fold(key, 2 * i), 0, len(self._layers) + 1, dtype=tf.int32
            )
            batch = self._apply(chosen, batch, fold(key, 2 * i + 1))
        return batch[0]

    @float32_by_default()
    def _apply(self, chosen: tf.Tensor, batch: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        def branch(layer: keras.layers.Layer) -> tf.Tensor:
            with self._seeds.bound_to(key):
                drawn = layer.get_random_transformation(batch)
            return tf.ensure_shape(layer.transform_images(batch, drawn), batch.shape)

        branches = [lambda layer=layer: branch(layer) for layer in self._layers]
        return tf.switch_case(chosen, [*branches, lambda: batch])


def _operations(magnitude: float) -> list[keras.layers.Layer]:
    layers = keras.layers
    shear, shift, change = 0.3 * magnitude, 0.3 * magnitude, 0.9 * magnitude
    bits = 8 - round(4 * magnitude)
    return [
        layers.AutoContrast(**LAYER_OPTIONS),
        layers.Equalization(**LAYER_OPTIONS),
        layers.RandomRotation(magnitude * 30 / 360, **_FILL),
        layers.RandomShear(x_factor=shear, y_factor=0.0, **_FILL),
        layers.RandomShear(x_factor=0.0, y_factor=shear, **_FILL),
        layers.RandomTranslation(shift, 0.0, **_FILL),
        layers.RandomTranslation(0.0, shift, **_FILL),
        layers.RandomColorDegeneration((0.0, change), **LAYER_OPTIONS),
        layers.RandomContrast(change, **LAYER_OPTIONS),
        layers.RandomBrightness(change, **LAYER_OPTIONS),
        layers.RandomSharpness((0.5 - change / 2, 0.5 + change / 2), **LAYER_OPTIONS),
        layers.RandomPosterization((bits, bits), **LAYER_OPTIONS),
        layers.Solarization(threshold_factor=(1.0, 1.0), **LAYER_OPTIONS),
    ]
