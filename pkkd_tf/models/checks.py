"""Checks that every network makes of its arguments."""

from typing import Any

from pkkd_tf.integers import integer


def check_arguments(num_classes: Any, input_shape: Any) -> tuple[int, Any]:
    """Returns both in Python's ints; raises `ValueError` unless they describe an image network."""
    classes = integer(num_classes)
    if classes is None or classes < 1:
        raise ValueError(
            f"`num_classes` must be a positive integer. Received: num_classes={num_classes!r}"
        )
    if (
        not hasattr(input_shape, "__len__")
        or len(input_shape) != 3
        or not _positive(input_shape[2])
        or not all(size is None or _positive(size) for size in input_shape[:2])
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), height and width positive or None, "
            f"channels positive. Received: input_shape={input_shape!r}"
        )
    return classes, tuple(integer(size) for size in input_shape)


def _positive(size: Any) -> bool:
    number = integer(size)
    return number is not None and number > 0
