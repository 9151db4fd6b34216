"""Training batches that a longer `fit` would repeat."""

import warnings
from typing import Any

import tensorflow as tf


def mark(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Marks what `ImageDataset.train` returns: iterated again, it yields the same batches."""
    batches.repeats_itself = True
    return batches


def warn_of_repetition(options: dict[str, Any]) -> None:
    """Warns where `fit` would repeat the batches of a marked data set.

    Keras begins a data set of known length anew, without a word, when it has come to its end.

    Args:
        options: the arguments of `fit`, by name.
    """
    if not getattr(options["x"], "repeats_itself", False):
        return
    batches, steps = int(options["x"].cardinality()), options["steps_per_epoch"]
    epochs = options["epochs"] - options["initial_epoch"]
    if epochs * (steps or batches) <= batches:
        return
    warnings.warn(
        "Training batches repeat: orders, crops and mixtures are functions of the epoch, and the "
        "data set ends before `fit` does. Train on `data.train(batch_size, epochs=epochs)` with "
        "`steps_per_epoch=data.steps_per_epoch(batch_size)`. Received: a data set of "
        f"{batches} batches, epochs={epochs}, steps_per_epoch={steps}",
        stacklevel=3,
    )
