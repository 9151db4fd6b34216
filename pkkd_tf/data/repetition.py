"""Training batches that a longer `fit` would repeat."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def mark(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Marks what `ImageDataset.train` returns: iterated again, it yields the same batches."""
    batches.repeats_itself = True
    return batches


def warning_of_repetition(fit: Callable[..., Any]) -> Callable[..., Any]:
    """`keras.Model.fit`, with a warning where it would repeat the batches of a marked data set.

    Keras begins a data set of known length anew, without a word, when it has come to its end.
    """
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def fit_with_warning(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        options = given.arguments
        if getattr(options["x"], "repeats_itself", False):
            epochs = options["epochs"] - options["initial_epoch"]
            _warn_of_repetition(int(options["x"].cardinality()), epochs, options["steps_per_epoch"])
        return fit(*args, **kwargs)

    return fit_with_warning


def _warn_of_repetition(batches: int, epochs: int, steps_per_epoch: int | None) -> None:
    if epochs * (steps_per_epoch or batches) <= batches:
        return
    warnings.warn(
        "Training batches repeat: orders, crops and mixtures are functions of the epoch, and the "
        "data set ends before `fit` does. Train on `data.train(batch_size, epochs=epochs)` with "
        "`steps_per_epoch=data.steps_per_epoch(batch_size)`. Received: a data set of "
        f"{batches} batches, epochs={epochs}, steps_per_epoch={steps_per_epoch}",
        stacklevel=3,
    )
