"""Photos that can be read in any order: those of class folders and of array_record files."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import tensorflow as tf

from pkkd_tf.data.dataset import training_subset
from pkkd_tf.data.photos import PhotoDataset
from pkkd_tf.data.randomness import augmentation_key, fixed_permutation, fold
from pkkd_tf.data.spans import Shard, Span

SUBSTITUTES = 7
BLOCK = 16  # photos that are looked up in one call


class Photo(NamedTuple):
    """What is known of a photo before it is decoded, as Tensors.

    Attributes:
        source: string. What `IndexedPhotos.contents` takes.
        name: string. What the photo is called in messages.
        label: int32.
    """

    source: tf.Tensor
    name: tf.Tensor
    label: tf.Tensor


class IndexedPhotos(ABC):
    """The photos of one split, each with a number. All methods but `len` work on Tensors."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """A string for each of the integers `rows`, out of which `describe` makes photos."""

    @abstractmethod
    def describe(self, row: tf.Tensor, found: tf.Tensor) -> Photo:
        """The photo of number `row`, for which `found` was looked up."""

    @abstractmethod
    def contents(self, source: tf.Tensor) -> tf.Tensor:
        """The encoded image of a photo's `source`."""


class IndexedDataset(PhotoDataset):
    """A data set of photos in any order: an epoch is a uniform permutation of them.

    Starting at a later step costs nothing, and a shard reads its own photos alone. With
    `skip_broken_images` the place of a broken training image is taken by another training
    image, drawn from (seed, epoch, position): batches stay full, an epoch keeps its number of
    steps, and a resumed run sees what an uninterrupted one sees. Up to seven substitutes are
    tried. Broken test images are left out.

    Args:
        train: `IndexedPhotos`.
        test: `IndexedPhotos`.
        limit_train: int or None. Keeps that many training images of a seeded permutation.
        seed: int.
        **kwargs: as for `PhotoDataset`.
    """

    def __init__(
        self,
        train: IndexedPhotos,
        test: IndexedPhotos,
        limit_train: int | None,
        seed: int,
        **kwargs: Any,
    ) -> None:
        self._train, self._test = train, test
        self._subset = training_subset(len(train), limit_train, seed)
        super().__init__(sizes=(len(self._subset), len(test)), seed=seed, **kwargs)

    def _training_batches(self, span: Span) -> tf.data.Dataset:
        subset = self._constant(self._subset)

        def places_of(epoch: tf.Tensor, step: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
            part = tf.range(span.first_row, span.first_row + span.rows, dtype=tf.int64)
            positions = step * span.batch_size + part
            rows = tf.gather(subset, tf.gather(rows, part))
            return tf.data.Dataset.from_tensor_slices(
                (tf.fill([span.rows], epoch), positions, rows)
            )

        def one(*place: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._training_example(subset, *place)

        examples = _looked_up(self._train, self.places(span).flat_map(places_of)).map(
            one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return self._batched_training(examples, span.rows)

    def _training_example(
        self,
        subset: tf.Tensor,
        epoch: tf.Tensor,
        position: tf.Tensor,
        row: tf.Tensor,
        found: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        key = augmentation_key(self.seed, epoch, position)
        asked = self._train.describe(row, found)
        others = self._substitutes(subset, key) if self._broken.skip else None

        def candidate(number: tf.Tensor) -> Photo:
            if others is None:
                return asked
            return tf.cond(number == 0, lambda: asked, lambda: self._photo(others[number - 1]))

        number, image = self._training_photo(
            lambda k: self._train.contents(candidate(k).source),
            lambda k: candidate(k).name,
            key,
            candidates=1 + SUBSTITUTES if self._broken.skip else 1,
            required=True,
        )
        return image, candidate(number).label, key

    def _substitutes(self, subset: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """The training images that may take the place of a broken one."""
        others = tf.random.stateless_uniform(
            [SUBSTITUTES], fold(key, 4), 0, self.num_train, dtype=tf.int32
        )
        return tf.gather(subset, others)

    def _photo(self, row: tf.Tensor) -> Photo:
        return self._train.describe(row, self._train.look_up(row[tf.newaxis])[0])

    def _test_batches(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        rows = tf.data.Dataset.range(len(self._test)).shard(*reversed(shard))
        return self._test_batches_of(self._evaluated(self._test, rows), batch_size, shard)

    def _sample_batches(self, n: int) -> tf.data.Dataset:
        order = self._subset[fixed_permutation(self.seed, self.num_train)]
        rows = tf.data.Dataset.from_tensor_slices(self._constant(order))
        return self._evaluated(self._train, rows).take(n).batch(min(n, 64))

    def _evaluated(self, photos: IndexedPhotos, rows: tf.data.Dataset) -> tf.data.Dataset:
        def one(row: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, ...]:
            photo = photos.describe(row, found)
            number, image = self._test_photo(
                lambda k: photos.contents(photo.source), lambda k: photo.name
            )
            return number, image, photo.label

        return self._test_examples(_looked_up(photos, rows), one)

    @staticmethod
    def _constant(rows: Any) -> tf.Tensor:
        with tf.device("CPU"):
            return tf.constant(rows)


def _looked_up(photos: IndexedPhotos, places: tf.data.Dataset) -> tf.data.Dataset:
    """Appends what is found for the row, the last column of `places`."""

    def one_block(*columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *columns, photos.look_up(columns[-1])

    blocks = places.batch(BLOCK)
    return blocks.map(one_block, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()
