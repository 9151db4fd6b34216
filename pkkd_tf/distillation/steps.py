"""What a training step is made of besides the losses: parts of a batch, and steps left out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


class Batch(NamedTuple):
    """What a step is given.

    Attributes:
        images: tensor (N, ...), or a structure of such.
        labels: class numbers (N,) or probabilities (N, classes).
        weights: of each image's losses, (N,), or None: all 1.
    """

    images: Any
    labels: Any
    weights: Any = None


def unpack(data: Any) -> Batch:
    """A batch as Keras' `fit` and `evaluate` hand it on.

    Class numbers and weights may be columns (N, 1), as those of `keras.datasets` are, and the only
    ones of a list, a tuple or a dictionary, as Keras takes them.

    Raises:
        ValueError: there are no labels, or labels for several outputs.
    """
    images, *given = keras.utils.unpack_x_y_sample_weight(data)
    labels, weights = (_only(value) for value in given)
    if labels is None:
        raise ValueError(f"PKKD trains on (images, labels). Received: labels={labels}")
    return Batch(images, _without_column(labels), None if weights is None else _flat(weights))


def _only(value: Any) -> Any:
    """`value`, or the one tensor in a structure, which is none of (1, N); a list of numbers is."""
    if not isinstance(value, list | tuple | dict):
        return value
    tensors = [tf.convert_to_tensor(each) for each in keras.tree.flatten(value)]
    if all(tensor.shape.rank == 0 for tensor in tensors) and not isinstance(value, dict):
        return value
    if len(tensors) != 1:
        raise ValueError(
            "Labels, and weights, must be one tensor, for the only output of the networks. "
            f"Received: shapes={[tuple(tensor.shape) for tensor in tensors]}"
        )
    return tensors[0]


def _without_column(labels: Any) -> Any:
    """There are at least two classes, so a column holds class numbers."""
    labels = tf.convert_to_tensor(labels)
    return tf.squeeze(labels, 1) if labels.shape.rank == 2 and labels.shape[1] == 1 else labels


def _flat(weights: Any) -> tf.Tensor:
    weights = tf.cast(tf.convert_to_tensor(weights), tf.float32)
    if weights.shape.rank not in (1, 2) or weights.shape[1:] not in ([], [1]):
        raise ValueError(
            "`sample_weight` must be a number for each image, (N,). "
            f"Received: sample_weight.shape={weights.shape}"
        )
    return tf.reshape(weights, [-1])


def part(batch: Batch, number: int, count: int) -> tuple[Batch, Any]:
    """Part `number` of `count` (almost) equal ones of a batch.

    Args:
        batch: of at least `count` images.
        number: int in 0 .. count - 1.
        count: int.

    Returns:
        (part, share of the batch); the shares of all parts sum to 1.
    """
    if count == 1:
        return batch, 1.0
    size = tf.shape(batch.labels)[0]
    enough = tf.debugging.assert_greater_equal(
        size, count, "A batch must hold at least `accumulate_steps` images a replica."
    )
    with tf.control_dependencies([] if enough is None else [enough]):
        first, last = size * number // count, size * (number + 1) // count
    share = tf.cast(last - first, tf.float32) / tf.cast(size, tf.float32)
    weights = None if batch.weights is None else batch.weights[first:last]
    images = tf.nest.map_structure(lambda x: x[first:last], batch.images)
    return Batch(images, batch.labels[first:last], weights), share


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
