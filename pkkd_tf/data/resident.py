"""An in-memory data set on the training device: a step is sent which images, and how."""

from typing import Any, NamedTuple

import tensorflow as tf

from pkkd_tf.data.augmentation import BatchAugmentation, normalize
from pkkd_tf.data.cropping import Windows, cut_windows, draw_windows
from pkkd_tf.data.dataset import ImageDataset, finished
from pkkd_tf.data.described import DescribedBySource
from pkkd_tf.data.randomness import augmentation_key
from pkkd_tf.data.repetition import mark
from pkkd_tf.data.spans import Shard, Span, check_test


class TrainingPlan(NamedTuple):
    """A training batch before its pixels: all that is random about it.

    Attributes:
        rows: int64 Tensor (batch,). Which training images.
        windows: `Windows`; empty without the standard augmentation.
        drawn: what `BatchAugmentation.draw` drew.
    """

    rows: Any
    windows: Any
    drawn: Any


class TestPlan(NamedTuple):
    """A test batch before its pixels.

    Attributes:
        rows: int64 Tensor (batch,). Which test images.
    """

    rows: Any


class Images(NamedTuple):
    """Images and labels on one device.

    A GPU gathers no uint8. float16 holds 0..255 exactly in two bytes: 307 MB of CIFAR's training
    images.

    Attributes:
        pixels: float16 Tensor (images, height, width, channels).
        labels: int64 Tensor (images,).
    """

    pixels: tf.Tensor
    labels: tf.Tensor

    @classmethod
    def put(cls, images: tf.Tensor, labels: tf.Tensor, device: str) -> "Images":
        """Copies uint8 images and their labels to `device`."""
        with tf.device(device):
            return cls(tf.cast(images, tf.float16), tf.cast(labels, tf.int64))

    def take(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The images and int32 labels of these rows."""
        return tf.gather(self.pixels, rows), tf.cast(tf.gather(self.labels, rows), tf.int32)


class ResidentDataset(DescribedBySource):
    """The batches of an `InMemoryDataset`, made on the device that trains.

    `train` and `test` take the same arguments as the data set's own and yield plans, a few KB
    each: which rows, where each image is cropped, what is mixed with what. `prepare_batch` turns a
    plan into the batch, out of images that lie on the device, inside of the compiled step: bit for
    bit the batch that the data set itself makes on the host. All that is random is drawn on the
    host, so no draw depends on the device. What else a data set offers is the source's own.

    Args:
        source: `InMemoryDataset`. `source.on_device(device)` makes a `ResidentDataset`.
        device: str. Such as "GPU:0".
        train: (uint8 images, labels) of the training set.
        test: (uint8 images, labels) of the test set.
        window: (padding, flip) of the standard augmentation; None without it.
        augmentation: `BatchAugmentation` of the data set.

    Raises:
        ValueError: the data set's augmentation has randaugment, which works image by image.

    Example:
    ```python
    data = pkkd_tf.data.load("cifar10", data_dir).on_device("GPU:0")
    model.compile(optimizer, prepare_batch=data.prepare_batch)
    model.fit(data.train(256, epochs=9), steps_per_epoch=data.steps_per_epoch(256), epochs=9)
    ```
    """

    def __init__(
        self,
        source: ImageDataset,
        device: str,
        train: tuple[tf.Tensor, tf.Tensor],
        test: tuple[tf.Tensor, tf.Tensor],
        window: tuple[int, bool] | None,
        augmentation: BatchAugmentation,
    ) -> None:
        if not augmentation.draws_alone:
            raise ValueError(
                "Batches can be made on the device with every augmentation but randaugment, which "
                f"works image by image. Received: device={device!r}, augmentation with "
                "'randaugment'"
            )
        super().__init__(source)
        self._window, self._augmentation = window, augmentation
        self._train, self._test = (Images.put(*part, device) for part in (train, test))

    def train(
        self,
        batch_size: int,
        epochs: int = 1,
        start_epoch: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """As `ImageDataset.train`, yielding a `TrainingPlan` a batch."""
        span = self._source.span(batch_size, epochs, start_epoch, start_step, shard)
        plans = self._source.places(span).map(
            lambda *place: self._plan(span, *place),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        plans = plans.apply(tf.data.experimental.assert_cardinality(span.batches))
        return mark(finished(plans))

    def test(self, batch_size: int, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """As `ImageDataset.test`, yielding a `TestPlan` a batch."""
        check_test(batch_size, Shard(*shard))
        rows = tf.data.Dataset.range(self.num_test).shard(*reversed(shard))
        return finished(rows.batch(batch_size).map(TestPlan))

    def prepare_batch(self, plan: TrainingPlan | TestPlan) -> tuple[tf.Tensor, tf.Tensor]:
        """The images and labels of one plan, for `PKKD.compile(..., prepare_batch=...)`.

        Returns:
            Images float32 (batch, height, width, channels); labels int32 (batch,), or float32
            (batch, num_classes) of a training batch if the data set is `one_hot`.

        Raises:
            ValueError: `plan` is none of `train` and `test`.
        """
        if isinstance(plan, TestPlan):
            images, labels = self._test.take(plan.rows)
            return normalize(images, self._source.preprocessing), labels
        if not isinstance(plan, TrainingPlan):
            raise ValueError(
                "A model with a data set on its device is trained and tested on what the data "
                f"set's own train and test yield. Received: {type(plan).__name__}"
            )
        images, labels = self._train.take(plan.rows)
        if self._window is not None:
            images = cut_windows(images, plan.windows, self._window[0])
        return self._augmentation.apply(images, labels, plan.drawn)

    def _plan(self, span: Span, epoch: tf.Tensor, step: tf.Tensor, rows: tf.Tensor) -> TrainingPlan:
        key = augmentation_key(self._source.seed, epoch, step)
        rows = rows[span.first_row : span.first_row + span.rows]
        windows: Windows | tuple = ()
        if self._window is not None:
            place = span.first_row, span.batch_size
            windows = draw_windows(key, *self._window, place, span.rows)
        blank = tf.zeros([span.rows, *self._source.image_shape])
        drawn = self._augmentation.draw(blank, span.key_of_part(key))
        return TrainingPlan(tf.cast(rows, tf.int64), windows, drawn)
