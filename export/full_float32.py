"""Comparisons in which float32 means float32, on GPUs too."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 inside: GPUs from compute capability 8.0 on round what they multiply to 11 bits.

    A processor does not, so a network there and its file here would differ by more than an exact
    file may. Serves as a decorator too.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
