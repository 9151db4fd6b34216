"""Augmentation of whole batches: crop and flip, and what Keras' layers offer."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from pkkd_tf.data.rand_augment import RandAugment
from pkkd_tf.data.randomness import StatelessSeeds, fold

NAMES = ("standard", "randaugment", "mixup", "cutmix", "randomerasing")


def parse(augmentation: str | Sequence[str]) -> tuple[str, ...]:
    """Checks an `augmentation` argument and returns it as a tuple of names."""
    names = (augmentation,) if isinstance(augmentation, str) else tuple(augmentation)
    if names == ("none",):
        return ()
    if any(name not in NAMES for name in names) or len(set(names)) != len(names):
        raise ValueError(
            f"The augmentation must be 'none' or different names out of {NAMES}. "
            f"Received: augmentation={augmentation!r}"
        )
    return names


def random_crop_and_flip(
    images: tf.Tensor,
    key: tf.Tensor,
    padding: int,
    flip: bool,
    place: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Shifts each image by up to `padding` pixels over black and mirrors every other one.

    The whole batch is one gather: row y, column x of an output is row y + dy and column x + dx of
    the zero padded image, dy and dx uniform in 0..2 padding, x reversed with probability 1/2.

    Args:
        images: Tensor of any type.
        key: Tensor of two integers. All draws are a function of it.
        padding: int. Zeros added on each side before the crop.
        flip: bool. Whether to mirror left and right.
        place: (first row, rows) of the batch that `images` are a part of, and whose draws they
            get; None: they are the whole batch.

    Input shape: (batch, height, width, channels)
    Output shape: the same.
    """
    batch = tf.shape(images)[0]
    height, width, channels = images.shape[1:]
    border = [padding, padding]
    padded = tf.reshape(tf.pad(images, [[0, 0], border, border, [0, 0]]), [-1, channels])
    first, drawn = place or (0, batch)
    shift = tf.random.stateless_uniform(
        [2, drawn, 1], fold(key, 1), 0, 2 * padding + 1, dtype=tf.int32
    )[:, first : first + batch]
    mirror = tf.random.stateless_uniform([drawn, 1], fold(key, 2), 0, 2, dtype=tf.int32)
    mirror = mirror[first : first + batch]
    rows = shift[0] + tf.range(height)
    rows += tf.range(batch)[:, tf.newaxis] * (height + 2 * padding)
    forward = tf.range(width)
    columns = tf.where((mirror == 1) & flip, forward[::-1], forward) + shift[1]
    index = rows[:, :, tf.newaxis] * (width + 2 * padding) + columns[:, tf.newaxis]
    return tf.ensure_shape(tf.gather(padded, index), images.shape)


class BatchAugmentation:
    """RandAugment, normalisation, RandomErasing, then MixUp or CutMix, in this order.

    The layers are Keras' own; their draws are made a function of the batch's key through
    `StatelessSeeds`, so a resumed run sees the same batches as an uninterrupted one.

    - randaugment: two operations an image, magnitude 0.3 (`RandAugment`).
    - randomerasing: half of the images lose a rectangle, filled with the mean colour
      (Zhong et al., arXiv 1708.04896).
    - mixup: weights from Beta(0.2, 0.2) (Zhang et al., arXiv 1710.09412).
    - cutmix: areas from Beta(1, 1) (Yun et al., arXiv 1905.04899).
    - mixup and cutmix together: one of the two a batch, each with probability 1/2.

    Args:
        names: tuple of str, as returned by `parse`.
        preprocessing: dict with `mean`, `std` and `scale`.
        image_shape: tuple (height, width, channels).
        num_classes: int. Width of the one-hot labels.

    Raises:
        ValueError: randaugment was asked for images that have no colours.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        preprocessing: dict,
        image_shape: tuple[int, int, int],
        num_classes: int,
    ):
        self._preprocessing = preprocessing
        self._num_classes = num_classes
        self._rand_augment = None
        if "randaugment" in names:
            _check_channels(image_shape)
            self._rand_augment = RandAugment()
        self._erasing = None
        if "randomerasing" in names:
            # After normalisation 0 is the mean colour.
            self._erasing = _stateless(
                keras.layers.RandomErasing(factor=(0.5, 0.5), fill_value=0.0)
            )
        self._mixing = []
        if "mixup" in names:
            self._mixing.append(_stateless(keras.layers.MixUp(alpha=0.2)))
        if "cutmix" in names:
            # Keras draws Beta's parameter from the factor's range; the paper's is 1.
            self._mixing.append(_stateless(keras.layers.CutMix(factor=(1.0, 1.0))))

    @property
    def one_hot(self) -> bool:
        """Whether labels come out as one-hot float32 rows."""
        return bool(self._mixing)

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns raw pixels and integer labels of one batch into what the network is given."""
        if self._rand_augment is not None:
            images = self._rand_augment(tf.cast(images, tf.float32), fold(key, 3))
        images = normalize(images, self._preprocessing)
        if self._erasing is not None:
            images, _ = _apply(self._erasing, images, None, fold(key, 4))
        if not self._mixing:
            return images, labels
        return self._mix(images, tf.one_hot(labels, self._num_classes), key)

    def _mix(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        branches = [
            lambda layer=layer: _apply(layer, images, labels, fold(key, 5))
            for layer in self._mixing
        ]
        chosen = tf.random.stateless_uniform([], fold(key, 6), 0, len(branches), dtype=tf.int32)
        mixed, soft_labels = tf.switch_case(chosen, branches)
        return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(soft_labels, labels.shape)


def normalize(images: tf.Tensor, preprocessing: dict) -> tf.Tensor:
    """Computes (images * scale - mean) / std as float32, per channel."""
    mean = tf.constant(preprocessing["mean"], tf.float32)
    std = tf.constant(preprocessing["std"], tf.float32)
    return tf.cast(images, tf.float32) * (preprocessing["scale"] / std) - mean / std


def _check_channels(image_shape: tuple[int, int, int]) -> None:
    if image_shape[-1] != 3:
        raise ValueError(
            "randaugment needs images of 3 channels. "
            f"Received: augmentation with 'randaugment', image_shape={image_shape}"
        )


def _stateless(layer: keras.layers.Layer) -> keras.layers.Layer:
    layer.generator = StatelessSeeds()
    return layer


def _apply(
    layer: keras.layers.Layer, images: tf.Tensor, labels: tf.Tensor | None, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor | None]:
    with layer.generator.bound_to(key):
        drawn = layer.get_random_transformation(images)
    return layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)
