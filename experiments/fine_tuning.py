"""Training on with rounded numbers, as `experiments.quantize` does."""

from typing import Any

import keras
import numpy as np

import pkkd_tf
from experiments.callbacks import StopOnNaN


def augmented(data: Any, options: dict[str, Any]) -> np.ndarray:
    """Images as in the training: statistics of plain ones are others (`reestimate_batch_norm`)."""
    batch = min(options["batch_size"], options["norm_images"], data.num_train)
    count = min(options["norm_images"], data.num_train) // batch
    return np.concatenate([images.numpy() for images, _ in data.train(batch).take(count)])


def make_training(model: keras.Model, teacher: Any, options: dict[str, Any]) -> pkkd_tf.PKKD:
    """The model that trains `model`, with a teacher that stays as it is or by labels alone.

    Raises:
        ValueError: a teacher that does not fit.
    """
    return pkkd_tf.PKKD(
        model,
        teacher,
        method="kd" if teacher else "plain",
        **({name: options[name] for name in ("alpha", "temperature")} if teacher else {}),
        teacher_mode="fixed" if teacher else "progressive",
        monitor_every=0,
    )


def fit(training: pkkd_tf.PKKD, data: Any, options: dict[str, Any]) -> None:
    """Trains for `--epochs`, the rate falling to 0 by a cosine.

    Raises:
        RunError: the loss is no number.
    """
    batch, epochs = options["batch_size"], options["epochs"]
    steps = data.steps_per_epoch(batch)
    rate = keras.optimizers.schedules.CosineDecay(options["learning_rate"], steps * epochs)
    training.compile(pkkd_tf.optimizers.AdderSGD(rate))
    training.fit(
        data.train(batch, epochs),
        epochs=epochs,
        steps_per_epoch=steps,
        verbose=options["verbose"],
        shuffle=False,
        callbacks=[StopOnNaN()],
    )
