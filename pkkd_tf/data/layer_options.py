"""Keras' augmentation layers whatever Keras' global settings are: float32, channels last."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

LAYER_OPTIONS: dict[str, Any] = {"dtype": "float32", "data_format": "channels_last"}


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Sets Keras' `floatx` inside: layers draw in it whatever their own type is.

    Example:
    ```python
    @float32_by_default()
    def augment(images, key): ...
    ```
    """
    before = keras.config.floatx()
    keras.config.set_floatx("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(before)
