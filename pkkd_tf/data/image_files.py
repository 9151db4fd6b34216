"""Photos in class folders."""

from typing import Any

import tensorflow as tf

from pkkd_tf.data.class_folders import ImageFiles
from pkkd_tf.data.dataset import Shard, Span, training_subset
from pkkd_tf.data.photos import PhotoDataset
from pkkd_tf.data.randomness import augmentation_key, epoch_batches, fixed_permutation, fold

SUBSTITUTES = 7


class ImageFilesDataset(PhotoDataset):
    """A data set of image files.

    With `skip_broken_images` the place of a broken training image is taken by another training
    image, drawn from (seed, epoch, position): batches stay full, an epoch keeps its number of
    steps, and a resumed run sees what an uninterrupted one sees. Up to seven substitutes are
    tried. Broken test images are left out.

    Args:
        train: `ImageFiles`.
        test: `ImageFiles`.
        limit_train: int or None. Keeps that many training images of a seeded permutation.
        seed: int.
        **kwargs: as for `PhotoDataset`.
    """

    def __init__(
        self,
        train: ImageFiles,
        test: ImageFiles,
        limit_train: int | None,
        seed: int,
        **kwargs: Any,
    ) -> None:
        rows = training_subset(len(train.paths), limit_train, seed)
        train = ImageFiles(train.paths[rows], train.labels[rows])
        super().__init__(sizes=(len(train.paths), len(test.paths)), seed=seed, **kwargs)
        with tf.device("CPU"):
            self._train, self._test = (
                ImageFiles(tf.constant(paths, tf.string), tf.constant(labels))
                for paths, labels in (train, test)
            )

    def _training_batches(self, span: Span) -> tf.data.Dataset:
        def places_of(epoch: tf.Tensor, step: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
            part = tf.range(span.first_row, span.first_row + span.rows, dtype=tf.int64)
            positions = step * span.batch_size + part
            return tf.data.Dataset.from_tensor_slices(
                (tf.fill([span.rows], epoch), positions, tf.gather(rows, part))
            )

        places = epoch_batches(
            self.num_train,
            span.batch_size,
            self.seed,
            span.epochs,
            span.start_epoch,
            span.start_step,
        )
        examples = places.flat_map(places_of).map(
            self._training_example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return self._batched_training(examples, span.rows)

    def _training_example(
        self, epoch: tf.Tensor, position: tf.Tensor, row: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        key = augmentation_key(self.seed, epoch, position)
        rows = self._candidates(row, key)
        names = tf.gather(self._train.paths, rows)
        number, image = self._training_photo(
            lambda k: tf.io.read_file(names[k]), names, key, required=True
        )
        return image, tf.gather(self._train.labels, rows[number]), key

    def _candidates(self, row: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """The training image asked for and, where broken ones may be skipped, its substitutes."""
        if not self._broken.skip:
            return row[tf.newaxis]
        others = tf.random.stateless_uniform(
            [SUBSTITUTES], fold(key, 4), 0, self.num_train, dtype=tf.int32
        )
        return tf.concat([row[tf.newaxis], others], 0)

    def _evaluation_example(self, path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        names = path[tf.newaxis]
        number, image = self._test_photo(lambda k: tf.io.read_file(names[k]), names)
        return number, image, label

    def _test_batches(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(tuple(self._test)).shard(*reversed(shard))
        return self._test_examples(files, self._evaluation_example).batch(batch_size)

    def _sample_batches(self, n: int) -> tf.data.Dataset:
        order = fixed_permutation(self.seed, self.num_train)
        files = tf.data.Dataset.from_tensor_slices(
            tuple(tf.gather(part, order) for part in self._train)
        )
        return self._test_examples(files, self._evaluation_example).take(n).batch(min(n, 64))
