"""Checks that every network makes of its arguments."""

from typing import Any


def check_arguments(num_classes: Any, input_shape: Any) -> None:
    """Raises `ValueError` unless both can describe a network for images."""
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(
            f"`num_classes` must be a positive integer. Received: num_classes={num_classes!r}"
        )
    if (
        len(input_shape) != 3
        or not _positive(input_shape[2])
        or not all(size is None or _positive(size) for size in input_shape[:2])
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), height and width positive or None, "
            f"channels positive. Received: input_shape={input_shape!r}"
        )


def _positive(size: Any) -> bool:
    return isinstance(size, int) and size > 0
