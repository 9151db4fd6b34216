"""What a data set says of itself where another one holds its images."""

import numpy as np

from pkkd_tf.data.dataset import ImageDataset


class DescribedBySource:
    """Attributes and methods of `ImageDataset` that do not yield batches: those of `source`.

    Args:
        source: `ImageDataset`.
    """

    def __init__(self, source: ImageDataset) -> None:
        self._source = source
        self.name, self.seed, self.one_hot = source.name, source.seed, source.one_hot
        self.image_shape, self.preprocessing = source.image_shape, source.preprocessing
        self.num_classes, self.class_names = source.num_classes, source.class_names
        self.num_train, self.num_test = source.num_train, source.num_test

    @property
    def num_broken(self) -> int:
        """As `ImageDataset.num_broken`."""
        return self._source.num_broken

    def steps_per_epoch(self, batch_size: int) -> int:
        """As `ImageDataset.steps_per_epoch`."""
        return self._source.steps_per_epoch(batch_size)

    def sample(self, n: int) -> np.ndarray:
        """As `ImageDataset.sample`, on the host."""
        return self._source.sample(n)
