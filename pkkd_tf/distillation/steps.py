"""What a training step is made of besides the losses: parts of a batch, and steps left out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def scoped(name: str) -> Callable[[Callable], Callable]:
    """Names the operations that a function makes `name/...`: a profile tells them apart by it."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with tf.name_scope(name):
                return function(*args, **kwargs)

        return inside

    return decorate


def part(images: Any, labels: Any, number: int, count: int) -> tuple[Any, Any, Any]:
    """Part `number` of `count` (almost) equal ones of a batch.

    Args:
        images: tensor whose first dimension is at least `count`, or a structure of such.
        labels: tensor of the same first dimension.
        number: int in 0 .. count - 1.
        count: int.

    Returns:
        (images, labels, share of the batch); the shares of all parts sum to 1.
    """
    if count == 1:
        return images, labels, 1.0
    size = tf.shape(labels)[0]
    enough = tf.debugging.assert_greater_equal(
        size, count, "A batch must hold at least `accumulate_steps` images a replica."
    )
    with tf.control_dependencies([] if enough is None else [enough]):
        first, last = size * number // count, size * (number + 1) // count
    share = tf.cast(last - first, tf.float32) / tf.cast(size, tf.float32)
    images = tf.nest.map_structure(lambda x: x[first:last], images)
    return images, labels[first:last], share


def after(done: Sequence[Any], value: Any) -> Any:
    """`value`, tensors, but not before those in `done` are there: one part's memory at a time."""
    if not done:
        return value
    with tf.control_dependencies([tensor for tensor in done if tensor is not None]):
        return tf.nest.map_structure(tf.identity, value)


def add(total: list[Any], gradients: list[Any]) -> list[Any]:
    """Sums gradients, variable by variable; None stands for none so far."""
    if not total:
        return gradients
    return [b if a is None else a if b is None else a + b for a, b in zip(total, gradients)]


class SkippedSteps(keras.metrics.Metric):
    """Steps left out, which are the same ones in every replica."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.count = self.add_variable((), "zeros", aggregation="mean", name="count")
        self.in_a_row = self.add_variable(
            (), "zeros", aggregation="only_first_replica", name="in_a_row"
        )

    def update_state(self, skipped: Any) -> None:
        """Adds one step, as 1 (left out) or 0."""
        self.count.assign(self.count + skipped)
        self.in_a_row.assign((self.in_a_row + 1) * skipped)

    def reset_state(self) -> None:
        """Begins the count anew; steps in a row go on from one epoch to the next."""
        self.count.assign(0)

    def result(self) -> Any:
        """How many since the last reset."""
        return tf.convert_to_tensor(self.count)  # Keras' eager steps hand on no variable


class Statistics:
    """The variables that a forward pass changes, as they were: moving statistics, measurements.

    Args:
        variables: Keras variables.
    """

    def __init__(self, variables: Sequence[Any]):
        self.variables = list(variables)
        self.before = [tf.identity(v.value) for v in variables]

    def restore_unless(self, condition: tf.Tensor) -> None:
        """Puts the old values back unless `condition` holds. Call in the replica context."""
        for variable, before in zip(self.variables, self.before):
            variable.assign(tf.where(condition, variable.value, before))
