"""Small image sets that lie in memory as uint8."""

from typing import Any

import tensorflow as tf

from pkkd_tf.data.cropping import random_crop_and_flip
from pkkd_tf.data.dataset import ImageDataset, training_subset
from pkkd_tf.data.randomness import augmentation_key, fixed_permutation
from pkkd_tf.data.readers import Arrays
from pkkd_tf.data.resident import ResidentDataset
from pkkd_tf.data.spans import Shard, Span


class InMemoryDataset(ImageDataset):
    """A data set of uint8 arrays; a batch is one gather, cropped and flipped as a whole.

    Args:
        arrays: `Arrays`.
        padding: int. The standard augmentation shifts images by up to this many pixels.
        flip: bool. Whether it mirrors them.
        limit_train: int or None. Keeps that many training images of a seeded permutation.
        seed: int.
        **kwargs: `name`, `preprocessing`, `augmentation` of `ImageDataset`.
    """

    def __init__(
        self,
        arrays: Arrays,
        padding: int,
        flip: bool,
        limit_train: int | None,
        seed: int,
        **kwargs: Any,
    ) -> None:
        images, labels = arrays.train_images, arrays.train_labels
        if limit_train is not None:
            rows = training_subset(len(images), limit_train, seed)
            images, labels = images[rows], labels[rows]
        super().__init__(
            image_shape=images.shape[1:],
            class_names=arrays.class_names,
            sizes=(len(images), len(arrays.test_images)),
            seed=seed,
            **kwargs,
        )
        self._padding, self._flip = padding, flip
        with tf.device("CPU"):
            self._train = tf.constant(images), tf.constant(labels)
            self._test = tf.constant(arrays.test_images), tf.constant(arrays.test_labels)

    def on_device(self, device: str) -> ResidentDataset:
        """The same batches, bit for bit, made on `device` inside of the training step.

        Args:
            device: str. Such as "GPU:0". Two bytes a pixel lie there: 370 MB of CIFAR.

        Raises:
            ValueError: the augmentation has randaugment.
        """
        window = (self._padding, self._flip) if self._standard else None
        return ResidentDataset(self, device, self._train, self._test, window, self._augment)

    def _training_batches(self, span: Span) -> tf.data.Dataset:
        images, labels = self._train
        part = slice(span.first_row, span.first_row + span.rows)

        def one_batch(
            epoch: tf.Tensor, step: tf.Tensor, rows: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            key = augmentation_key(self.seed, epoch, step)
            rows = rows[part]
            batch = tf.gather(images, rows)
            if self._standard:
                place = span.first_row, span.batch_size
                batch = random_crop_and_flip(batch, key, self._padding, self._flip, place)
            return batch, tf.gather(labels, rows), key

        return self.places(span).map(
            one_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def _test_batches(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        images, labels = (part[shard.part :: shard.parts] for part in self._test)
        starts = tf.data.Dataset.range(0, len(labels), batch_size)
        return starts.map(lambda i: (images[i : i + batch_size], labels[i : i + batch_size]))

    def _sample_batches(self, n: int) -> tf.data.Dataset:
        rows = fixed_permutation(self.seed, self.num_train)[:n]
        return tf.data.Dataset.from_tensors(tuple(tf.gather(part, rows) for part in self._train))
