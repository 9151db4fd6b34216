"""Augmentation of whole batches by Keras' layers: what is drawn, and what is done with it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.data.layer_options import LAYER_OPTIONS, float32_by_default
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
                keras.layers.RandomErasing, factor=(0.5, 0.5), fill_value=0.0
            )
        self._mixing = []
        if "mixup" in names:
            self._mixing.append(_stateless(keras.layers.MixUp, alpha=0.2))
        if "cutmix" in names:
            # Keras draws Beta's parameter from the factor's range; the paper's is 1.
            self._mixing.append(_stateless(keras.layers.CutMix, factor=(1.0, 1.0)))

    @property
    def one_hot(self) -> bool:
        """Whether labels come out as one-hot float32 rows."""
        return bool(self._mixing)

    @property
    def draws_alone(self) -> bool:
        """Whether `draw` and `apply` do all there is: randaugment draws while it computes."""
        return self._rand_augment is None

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns raw pixels and integer labels of one batch into what the network is given."""
        if self._rand_augment is not None:
            images = self._rand_augment(tf.cast(images, tf.float32), fold(key, 3))
        return self.apply(images, labels, self.draw(images, key))

    @float32_by_default()
    def draw(self, images: tf.Tensor, key: tf.Tensor) -> dict[str, Any]:
        """All that is random about a batch but for randaugment: Tensors, by name.

        Args:
            images: Tensor whose shape alone counts.
            key: Tensor of two integers. All draws are a function of it.
        """
        drawn: dict[str, Any] = {}
        if self._erasing is not None:
            drawn["erasing"] = _draw(self._erasing, images, fold(key, 4))
        if self._mixing:
            drawn["mixing"] = tuple(_draw(x, images, fold(key, 5)) for x in self._mixing)
            drawn["chosen"] = tf.random.stateless_uniform(
                [], fold(key, 6), 0, len(self._mixing), dtype=tf.int32
            )
        return drawn

    @float32_by_default()
    def apply(
        self, images: tf.Tensor, labels: tf.Tensor, drawn: dict[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `__call__`, with what `draw` drew and without randaugment; nothing here is random."""
        images = normalize(images, self._preprocessing)
        if self._erasing is not None:
            images = self._erasing.transform_images(images, drawn["erasing"])
        if not self._mixing:
            return images, labels
        labels = tf.one_hot(labels, self._num_classes)
        branches = [
            lambda layer=layer, own=own: (
                layer.transform_images(images, own),
                layer.transform_labels(labels, own),
            )
            for layer, own in zip(self._mixing, drawn["mixing"])
        ]
        mixed, soft_labels = tf.switch_case(drawn["chosen"], branches)
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


def _stateless(kind: type, **arguments: Any) -> keras.layers.Layer:
    layer = kind(**arguments, **LAYER_OPTIONS)
    layer.generator = StatelessSeeds()
    return layer


def _draw(layer: keras.layers.Layer, images: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
    with layer.generator.bound_to(key):
        drawn = dict(layer.get_random_transformation(images))
    if "batch_masks" in drawn:
        drawn["batch_masks"] = drawn["batch_masks"][..., :1]  # the same for all channels
    if "fill_value" in drawn:
        drawn["fill_value"] = drawn["fill_value"][:1, :1, :1, :1]  # one colour for all pixels
    return drawn
