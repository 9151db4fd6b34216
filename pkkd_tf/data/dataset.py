"""What every data set offers: training, test and sample batches."""

from abc import ABC, abstractmethod

import numpy as np
import tensorflow as tf

from pkkd_tf.data.augmentation import BatchAugmentation, normalize
from pkkd_tf.data.randomness import epoch_batches, fixed_permutation
from pkkd_tf.data.repetition import mark
from pkkd_tf.data.spans import Shard, Span, check_shard, check_span, check_test


class ImageDataset(ABC):
    """Images with labels, as batches for training and test. `pkkd_tf.data.load` makes them.

    Training batches are a function of the seed, the batch size and their place (epoch, step): what
    ran before, the number of threads and TensorFlow's global seed change nothing.

    Attributes:
        name: str. What `load` was called with.
        num_classes: int.
        image_shape: tuple (height, width, channels) of the images in the batches.
        class_names: tuple of str, in the order of the labels.
        num_train: int. Training images.
        num_test: int. Test images; with `skip_broken_images` the broken ones are counted too.
        preprocessing: dict with `mean`, `std` (tuples, one value a channel) and `scale`. A network
            is given (pixel * scale - mean) / std, pixel an integer.
        seed: int.
        one_hot: bool. Whether training labels are one-hot float32 rows (mixup, cutmix).
    """

    def __init__(
        self,
        name: str,
        image_shape: tuple[int, int, int],
        class_names: tuple[str, ...],
        sizes: tuple[int, int],
        preprocessing: dict,
        augmentation: tuple[str, ...],
        seed: int,
    ):
        self.name = name
        self.image_shape = image_shape
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.num_train, self.num_test = sizes
        self.preprocessing = preprocessing
        self.seed = seed
        self._standard = "standard" in augmentation
        self._augment = BatchAugmentation(
            augmentation, preprocessing, image_shape, self.num_classes
        )
        self.one_hot = self._augment.one_hot

    @property
    def num_broken(self) -> int:
        """Different broken images that were skipped so far."""
        return 0

    def steps_per_epoch(self, batch_size: int) -> int:
        """Training batches of an epoch: num_train // batch_size.

        Raises:
            ValueError: a batch is larger than the training set, or not positive.
        """
        if not 1 <= batch_size <= self.num_train:
            raise ValueError(
                "The batch size must lie between 1 and the number of training images. "
                f"Received: batch_size={batch_size}, num_train={self.num_train}"
            )
        return self.num_train // batch_size

    def train(
        self,
        batch_size: int,
        epochs: int = 1,
        start_epoch: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """The training batches from (start_epoch, start_step) to the end of epoch `epochs` - 1.

        Each epoch visits the images in a new order, without the few that do not fill a batch. A
        run that starts in the middle gets bit for bit what an uninterrupted run gets from there.
        Iterated again, the result yields the same batches again: for several epochs of `fit` give
        `epochs` here too, as below. `PKKD.fit` warns where batches would repeat.

        Args:
            batch_size: int. Rows of every batch.
            epochs: int. The epoch to stop before.
            start_epoch: int. First epoch.
            start_step: int. First step of the first epoch.
            shard: tuple (index, count). Makes part `index` of `count` equal parts of every batch,
                and decodes no more than that. Put together, the parts are the batches that one
                process gets, bit for bit with the standard augmentation; what works on whole
                batches (randaugment, randomerasing, mixup, cutmix) draws for each part.

        Returns:
            A `tf.data.Dataset` of (epochs - start_epoch) * steps_per_epoch - start_step pairs:
            images float32 of shape (rows, *image_shape); labels int32 of shape (rows,), or
            float32 of shape (rows, num_classes) if `one_hot`; rows = batch_size / count.

        Raises:
            ValueError: a number is out of its range.

        Example:
        ```python
        data = pkkd_tf.data.load("digits")
        model.fit(data.train(32, epochs=5), steps_per_epoch=data.steps_per_epoch(32), epochs=5)
        ```
        """
        span = self.span(batch_size, epochs, start_epoch, start_step, shard)

        def augment(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple:
            return self._augment(images, labels, span.key_of_part(key))

        batches = self._training_batches(span).map(
            augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        batches = batches.apply(tf.data.experimental.assert_cardinality(span.batches))
        return mark(finished(batches))

    def span(
        self,
        batch_size: int,
        epochs: int,
        start_epoch: int,
        start_step: int,
        shard: tuple[int, int],
    ) -> Span:
        """The arguments of `train`, checked."""
        steps = self.steps_per_epoch(batch_size)
        span = Span(batch_size, steps, epochs, start_epoch, start_step, Shard(*shard))
        check_span(span)
        check_shard(span.shard, batch_size)
        return span

    def places(self, span: Span) -> tf.data.Dataset:
        """(epoch, step, rows) of every whole batch of a span, in an order that the seed gives."""
        where = span.epochs, span.start_epoch, span.start_step
        return epoch_batches(self.num_train, span.batch_size, self.seed, *where)

    def test(self, batch_size: int, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """All test images in a fixed order; the last batch may be smaller.

        Args:
            batch_size: int. Rows of a batch.
            shard: tuple (index, count). Every `count`-th image from image `index` on, alone.

        Returns:
            A `tf.data.Dataset` of (images float32, labels int32).

        Raises:
            ValueError: batch_size is not positive, or the shard is none.
        """
        check_test(batch_size, Shard(*shard))
        return finished(self._normalized(self._test_batches(batch_size, Shard(*shard))))

    def sample(self, n: int) -> np.ndarray:
        """Preprocessed training images without augmentation, for calibration.

        Args:
            n: int. How many; always the same ones for a seed.

        Returns:
            float32 array of shape (n, height, width, channels).

        Raises:
            ValueError: n is not in 1..num_train.
        """
        if not 1 <= n <= self.num_train:
            raise ValueError(
                "The sample must hold between 1 and all training images. "
                f"Received: n={n}, num_train={self.num_train}"
            )
        batches = self._normalized(self._sample_batches(n))
        return np.concatenate([images for images, _ in batches.as_numpy_iterator()])[:n]

    def _normalized(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return batches.map(
            lambda images, labels: (normalize(images, self.preprocessing), labels),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    @abstractmethod
    def _training_batches(self, span: Span) -> tf.data.Dataset:
        """`span.rows` rows of each batch: (pixels, labels, key), cropped, flipped if standard."""

    @abstractmethod
    def _test_batches(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
        """Batches of (pixels, int32 labels) of the test set."""

    @abstractmethod
    def _sample_batches(self, n: int) -> tf.data.Dataset:
        """Batches of (pixels, int32 labels) with at least n training images altogether."""


def training_subset(size: int, limit_train: int | None, seed: int) -> np.ndarray:
    """Rows of the training images that are used: all, or `limit_train` chosen by the seed."""
    if limit_train is None:
        return np.arange(size)
    check_limit(limit_train, size)
    return fixed_permutation(seed, size)[:limit_train]


def check_limit(limit_train: int, size: int) -> None:
    """Raises ValueError unless limit_train is in 1..size."""
    if not 1 <= limit_train <= size:
        raise ValueError(
            "limit_train must lie between 1 and the number of training images. "
            f"Received: limit_train={limit_train}, training images={size}"
        )


def finished(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The batches, some made ahead, and cut between workers nowhere but in `shard`."""
    options = tf.data.Options()
    # Sharding by files would give each worker other images than one worker would see.
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
