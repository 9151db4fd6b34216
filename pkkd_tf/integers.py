"""Whole numbers out of what callers write: Python's, NumPy's and TensorFlow's."""

import operator
from typing import Any


def integer(value: Any) -> int | None:
    """`value` as Python's int, which configurations are written with; None for all but integers.

    Example:
        >>> integer(np.int64(10)), integer(tf.constant(10)), integer(10.0)
        (10, 10, None)
    """
    try:
        return int(operator.index(value))
    except TypeError:
        return None


def integers(values: Any) -> tuple[int, ...]:
    """Several values as `integer` gives them; none where one is no integer, or nothing to go over.

    Example:
        >>> integers(np.array([2, 1])), integers((2, 1.0)), integers(2)
        ((2, 1), (), ())
    """
    try:
        return tuple(int(operator.index(value)) for value in values)
    except TypeError:
        return ()
