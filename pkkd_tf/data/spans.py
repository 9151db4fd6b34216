"""Which batches are asked for, and which part of each a worker makes."""

from typing import NamedTuple

import tensorflow as tf

from pkkd_tf.data.randomness import fold


class Shard(NamedTuple):
    """One worker's part of every batch: number `part` of `parts` equal ones."""

    part: int = 0
    parts: int = 1


class Span(NamedTuple):
    """The training batches that are asked for."""

    batch_size: int
    steps: int
    epochs: int
    start_epoch: int
    start_step: int
    shard: Shard = Shard()

    @property
    def rows(self) -> int:
        """Rows of a batch that this worker makes."""
        return self.batch_size // self.shard.parts

    @property
    def first_row(self) -> int:
        """The first of them."""
        return self.rows * self.shard.part

    @property
    def batches(self) -> int:
        """How many batches that are."""
        return (self.epochs - self.start_epoch) * self.steps - self.start_step

    def key_of_part(self, key: tf.Tensor) -> tf.Tensor:
        """The key of what works on whole batches, out of the batch's."""
        return fold(key, self.shard.part) if self.shard.parts > 1 else key


def check_test(batch_size: int, shard: Shard) -> None:
    """Raises ValueError for what are no arguments of `ImageDataset.test`."""
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1. Received: batch_size={batch_size}")
    check_shard(shard)


def check_span(span: Span) -> None:
    """Raises ValueError unless training starts inside of its epochs."""
    inside = 0 <= span.start_step < span.steps
    at_end = span.start_epoch == span.epochs and span.start_step > 0
    if not (0 <= span.start_epoch <= span.epochs and inside) or at_end:
        raise ValueError(
            "Training must start inside of its epochs: 0 <= start_epoch <= epochs and "
            "0 <= start_step < steps per epoch. "
            f"Received: start_epoch={span.start_epoch}, start_step={span.start_step}, "
            f"epochs={span.epochs}, steps per epoch={span.steps}"
        )


def check_shard(shard: Shard, batch_size: int = 0) -> None:
    """Raises ValueError for what is no part of a batch."""
    if not 0 <= shard.part < shard.parts or batch_size % shard.parts:
        raise ValueError(
            "A shard must be (index, count) with 0 <= index < count, and the batch size a multiple "
            f"of count. Received: shard={tuple(shard)}, batch_size={batch_size}"
        )
