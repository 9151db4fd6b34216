"""Sums over all channels under all taps, a few terms at a time."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

CHUNK = 16  # terms in a register's sum: more take longer to compile, fewer use more memory traffic

# (total, tap, first term, number of terms) -> total and these terms
Add = Callable[[tf.Tensor, Any, Any, int], tf.Tensor]


def chain(add: Add, total: tf.Tensor, taps: int, terms: int) -> tf.Tensor:
    """`total` and `terms` terms under each of `taps` taps: one loop over chunks, one over the rest.

    Args:
        add: adds `count` terms from `first` on; `tap` and `first` may be tensors.
        total: where the sum begins.
        taps: their number.
        terms: of each tap.
    """
    whole, rest = divmod(terms, CHUNK)
    total = _loop(add, total, taps, whole, 0, CHUNK)
    return _loop(add, total, taps, min(rest, 1), whole * CHUNK, rest)


def _loop(add: Add, total: tf.Tensor, taps: int, chunks: int, first: int, count: int) -> tf.Tensor:
    steps = taps * chunks
    if steps < 2:
        return add(total, 0, first, count) if steps else total

    def body(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return step + 1, add(total, step // chunks, first + step % chunks * CHUNK, count)

    loop = tf.while_loop(
        lambda step, _: step < steps,
        body,
        (tf.constant(0), total),
        shape_invariants=(tf.TensorShape([]), total.shape),
        maximum_iterations=steps,
    )
    return loop[1]
