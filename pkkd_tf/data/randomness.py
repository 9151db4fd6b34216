"""Stateless randomness: every draw of a pipeline is a function of (seed, epoch, position)."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

_ORDER, _AUGMENTATION, _SUBSET = 1, 2, 3


def fold(key: tf.Tensor, *numbers: int | tf.Tensor) -> tf.Tensor:
    """Derives a new key of two integers from `key` and one or more integers."""
    for number in numbers:
        key = tf.random.experimental.stateless_fold_in(key, number)
    return key


def order_key(seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """The key of the order in which epoch `epoch` visits the training images."""
    return fold(tf.constant([seed, _ORDER], tf.int64), epoch)


def augmentation_key(seed: int, epoch: int | tf.Tensor, position: int | tf.Tensor) -> tf.Tensor:
    """The key of the augmentation of one batch or one image of an epoch."""
    return fold(tf.constant([seed, _AUGMENTATION], tf.int64), epoch, position)


def fixed_permutation(seed: int, size: int) -> np.ndarray:
    """A permutation of range(size) that depends on `seed` alone."""
    return np.random.default_rng([seed, _SUBSET]).permutation(size)


def epoch_batches(
    size: int,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Yields (epoch, step, rows): which examples make up each training batch.

    Epoch e is a uniform permutation of range(size) drawn from (seed, e), cut into batches; what
    does not fill a batch is left out of that epoch.

    Args:
        size: int. Number of training examples.
        batch_size: int. Rows of each batch.
        seed: int. Seed of the permutations.
        epochs: int. The epoch to stop before.
        start_epoch: int. First epoch.
        start_step: int. First step of the first epoch.

    Returns:
        A `tf.data.Dataset` of (int64, int64, int32 of shape (batch_size,)).
    """
    steps = size // batch_size

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(size), order_key(seed, epoch))
        rows = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        first = tf.where(epoch == start_epoch, tf.cast(start_step, tf.int64), 0)
        step = tf.range(first, steps, dtype=tf.int64)
        numbers = (tf.fill(tf.shape(step), epoch), step, rows[first:])
        return tf.data.Dataset.from_tensor_slices(numbers)

    return tf.data.Dataset.range(start_epoch, epochs).flat_map(one_epoch)


class StatelessSeeds(keras.random.SeedGenerator):
    """A seed generator whose sequence is a function of a key instead of a counter variable.

    Keras' preprocessing layers take their seeds from a `SeedGenerator` that counts calls, so what
    they draw depends on how many batches came before and on which thread came first. Put in the
    place of a layer's `generator` and bound to a key, this one gives the same seeds for the same
    key whatever ran before.

    Example:
    ```python
    layer = keras.layers.MixUp()
    layer.generator = seeds = StatelessSeeds()
    with seeds.bound_to(key):
        transformation = layer.get_random_transformation(images)
    ```
    """

    def __init__(self) -> None:
        super().__init__(seed=0)
        self._key = None
        self._drawn = 0

    @contextmanager
    def bound_to(self, key: tf.Tensor) -> Iterator[None]:
        """Draws from `key` inside the `with` block."""
        self._key, self._drawn = key, 0
        try:
            yield
        finally:
            self._key = None

    def next(self, ordered: bool = True) -> tf.Tensor:
        """The next seed: `key` folded with the number of seeds drawn since it was bound."""
        del ordered
        self._drawn += 1
        return fold(self._key, self._drawn)
