"""ImageNet as tensorflow-datasets prepares it: JPEGs in TFRecord files."""

import os
from typing import Any

import tensorflow as tf

from pkkd_tf.data.dataset import check_limit
from pkkd_tf.data.photos import PhotoDataset
from pkkd_tf.data.prepared import parse_photo
from pkkd_tf.data.randomness import augmentation_key, fixed_permutation, fold, order_key
from pkkd_tf.data.spans import Shard, Span

SHUFFLE_BLOCK = 8192


class RecordsDataset(PhotoDataset):
    """A data set of encoded images in TFRecord files, which can only be read from front to back.

    An epoch reads the files in a new order, 16 at a time, and shuffles blocks of 8,192 records:
    not a uniform permutation, but a function of (seed, epoch). Starting at a later step reads the
    records before it without decoding them. With `skip_broken_images` an epoch leaves out broken
    images and fills up with a second reading of the files; a later first step then has to decode
    what comes before it. `limit_train` keeps the first records of a seeded order of the files.

    Args:
        info: of a data set that tensorflow-datasets has prepared as TFRecord files.
        limit_train: int or None.
        seed: int.
        **kwargs: as for `PhotoDataset`, without `sizes`.
    """

    def __init__(self, info: Any, limit_train: int | None, seed: int, **kwargs: Any) -> None:
        train, test = info.splits["train"], info.splits["validation"]
        if limit_train is not None:
            check_limit(limit_train, train.num_examples)
        num_train = limit_train or train.num_examples
        self._features = info.features
        self._train, self._test = ([os.fspath(p) for p in s.filepaths] for s in (train, test))
        self._limit = limit_train
        super().__init__(
            sizes=(num_train, test.num_examples),
            seed=seed,
            **kwargs,
        )

    def _training_batches(self, span: Span) -> tf.data.Dataset:
        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            first = tf.where(epoch == span.start_epoch, tf.cast(span.start_step, tf.int64), 0)
            if self._broken.skip:
                once, again = (self._epoch_examples(span, epoch, reading) for reading in (0, 1))
                batches = self._batched_training(once.concatenate(again), span.rows)
                return batches.take(span.steps).skip(first)
            examples = self._epoch_examples(span, epoch, 0, first * span.batch_size)
            batches = self._batched_training(examples, span.rows)
            return batches.take(span.steps - first)  # of a rest, a shard may hold a full batch

        return tf.data.Dataset.range(span.start_epoch, span.epochs).flat_map(one_epoch)

    def _epoch_examples(
        self, span: Span, epoch: tf.Tensor, reading: int, first: int | tf.Tensor = 0
    ) -> tf.data.Dataset:
        """(pixels, label, key) of the shard's records of an epoch, from record `first` on."""

        def is_ours(position: tf.Tensor, record: tf.Tensor) -> tf.Tensor:
            return position % span.batch_size // span.rows == span.shard.part

        def one(position: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
            key = fold(augmentation_key(self.seed, epoch, position), reading)
            contents, name, label = parse_photo(self._features, record)
            number, image = self._training_photo(
                lambda k: contents, lambda k: name, key, candidates=1, required=False
            )
            return number, image, label, key

        records = self._shuffled_records(fold(order_key(self.seed, epoch), reading))
        photos = (
            records.enumerate()
            .skip(first)
            .filter(is_ours)
            .map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        )
        if self._broken.skip:
            photos = photos.filter(lambda number, image, label, key: number == 0)
        return photos.map(lambda number, image, label, key: (image, label, key))

    def _shuffled_records(self, key: tf.Tensor) -> tf.data.Dataset:
        """The training records, block by block in an order that is a function of `key`."""
        if self._limit is None:
            files = tf.random.experimental.stateless_shuffle(tf.constant(self._train), fold(key, 1))
            records = _interleaved(files)
        else:
            records = self._limited_records()
        blocks = records.batch(SHUFFLE_BLOCK).enumerate()
        return blocks.map(
            lambda i, block: tf.random.experimental.stateless_shuffle(block, fold(key, 2, i))
        ).unbatch()

    def _limited_records(self) -> tf.data.Dataset:
        order = fixed_permutation(self.seed, len(self._train))
        return _interleaved(tf.constant([self._train[i] for i in order])).take(self.num_train)

    def _evaluation_example(self, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        contents, name, label = parse_photo(self._features, record)
        number, image = self._test_photo(lambda k: contents, lambda k: name)
        return number, image, label

    def _test_batches(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(self._test).shard(*reversed(shard))
        examples = self._test_examples(records, self._evaluation_example)
        return self._test_batches_of(examples, batch_size, shard)

    def _sample_batches(self, n: int) -> tf.data.Dataset:
        examples = self._test_examples(self._limited_records(), self._evaluation_example)
        return examples.take(n).batch(min(n, 64))


def _interleaved(files: tf.Tensor) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=16,
        block_length=16,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
