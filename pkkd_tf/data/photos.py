"""Photos of any size, decoded while training: what class folders and records have in common."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pkkd_tf.data.broken_images import BrokenImages
from pkkd_tf.data.dataset import ImageDataset
from pkkd_tf.data.decoding import (
    decode,
    decode_random_window,
    resize_and_center_crop,
    resize_and_mirror,
)
from pkkd_tf.data.randomness import fold
from pkkd_tf.data.spans import Shard


class PhotoDataset(ImageDataset):
    """A data set of encoded images of any size.

    Args:
        image_size: int. Height and width of the images in the batches.
        skip_broken_images: bool.
        **kwargs: as for `ImageDataset`, without `image_shape`.
    """

    def __init__(self, image_size: int, skip_broken_images: bool, **kwargs: Any) -> None:
        super().__init__(image_shape=(image_size, image_size, 3), **kwargs)
        self._size = image_size
        self._broken = BrokenImages(skip_broken_images)

    @property
    def num_broken(self) -> int:
        """Different broken images that were skipped so far."""
        return len(self._broken)

    def _training_photo(
        self,
        load: Callable,
        name_of: Callable,
        key: tf.Tensor,
        candidates: int,
        required: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes and augments the first sound one of a few images; returns its number, pixels.

        `load` maps the number of a candidate to the bytes of its file, `name_of` to its name.
        """
        if not self._standard:
            return self._test_photo(load, name_of, candidates, required)
        window_key, mirror_key = fold(key, 1), fold(key, 2)
        number, image = self._broken.first_sound(
            lambda k: decode_random_window(load(k), window_key), name_of, candidates, required
        )
        return number, resize_and_mirror(image, self._size, mirror_key)

    def _test_photo(
        self, load: Callable, name_of: Callable, candidates: int = 1, required: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_training_photo`, resized and cropped in the middle."""
        number, image = self._broken.first_sound(
            lambda k: decode(load(k)), name_of, candidates, required
        )
        return number, resize_and_center_crop(image, self._size)

    def _batched_training(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Batches (pixels, label, key of the image); the first image's key serves the batch."""
        batches = examples.batch(batch_size, drop_remainder=True)
        return batches.map(lambda images, labels, keys: (images, labels, fold(keys[0], 3)))

    def _test_batches_of(
        self, examples: tf.data.Dataset, size: int, shard: Shard
    ) -> tf.data.Dataset:
        """The shard's test examples in batches of `size`: so many, unless broken ones may lack."""
        batches = examples.batch(size)
        if self._broken.skip:
            return batches
        rows = len(range(shard.part, self.num_test, shard.parts))
        return batches.apply(tf.data.experimental.assert_cardinality(-(-rows // size)))

    def _test_examples(self, examples: tf.data.Dataset, one_photo: Callable) -> tf.data.Dataset:
        """Maps examples through `one_photo` to (number, pixels, label); drops the broken ones."""
        photos = examples.map(one_photo, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if self._broken.skip:
            photos = photos.filter(lambda number, image, label: number == 0)
        return photos.map(lambda number, image, label: (image, label))
