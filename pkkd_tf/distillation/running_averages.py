"""Batch normalization whose running averages are too slow for a training as short as it is."""

import math
import warnings
from typing import Any

import keras

# A network of digits ended at 12 % of the test images after 5.5 such spans, and at 98.6 % after 16;
# averages over ten steps are the published recipes'.
LEAST_SPANS, SHORT_SPAN = 15, 20


def warn_of_slow_averages(options: dict[str, Any]) -> None:
    """Warns where the student's batch normalization averages over a large part of the training.

    Adder filters move by a fixed length a step, and responses by more than their spread: averages
    over 1 / (1 - momentum) steps lag behind until the learning rate has fallen for longer.

    Args:
        options: the arguments of `fit`, by name, and the `PKKD` itself as `self`.
    """
    steps = _steps(options)
    layers = [
        layer
        for layer in options["self"].student._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    momenta = {layer.name: layer.momentum for layer in layers if _lags(layer.momentum, steps)}
    if not momenta:
        return
    name, momentum = next(iter(momenta.items()))
    warnings.warn(
        "Batch normalization of an adder network must average over a small part of the training, "
        "else test accuracy stays near chance: build it with momentum=0.9 (Keras' default is "
        "0.99), or take its statistics again afterwards, "
        "pkkd_tf.quantization.reestimate_batch_norm(model.student, images). Received: "
        f"{steps} steps, momentum={momentum:g} of {name!r} and {len(momenta) - 1} others",
        stacklevel=3,
    )


def _lags(momentum: float, steps: float) -> bool:
    span = 1 / max(1 - momentum, 1e-9)
    return span > SHORT_SPAN + 1e-6 and steps < LEAST_SPANS * span - 1e-6


def _steps(options: dict[str, Any]) -> float:
    """How many steps the training has in all; infinity where that is not known."""
    epochs, steps, x = options["epochs"], options["steps_per_epoch"], options["x"]
    if isinstance(x, list | tuple | dict):
        x = keras.tree.flatten(x)[0]
    if steps is None:
        try:
            steps = len(x)
        except TypeError:  # a data set of unknown length, a generator, or no sequence
            return math.inf
        if hasattr(x, "shape"):
            trained = math.ceil(steps * (1 - (options["validation_split"] or 0)))
            steps = math.ceil(trained / (options["batch_size"] or 32))
    return epochs * steps
