"""What happens around Keras' steps: logs, time left, and an end where losses are not finite."""

import math
import time
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from experiments.errors import RunError
from experiments.history import Table


class History(keras.callbacks.Callback):
    """Adds to history.csv and layers.csv, and says how fast the run is and how long it will take.

    Args:
        epochs: Table of the epochs.
        layers: Table of the layers.
        batch_size: images a step.
        steps: steps an epoch.
        last: number of the last epoch.
        verbose: whether to print the time left.
    """

    def __init__(
        self, epochs: Table, layers: Table, batch_size: int, steps: int, last: int, verbose: int
    ):
        super().__init__()
        self.epochs, self.layers, self.last = epochs, layers, last
        self.batch_size, self.steps, self.verbose = batch_size, steps, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.start, self.seen, self.trained = time.monotonic(), 0, None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the steps of this epoch, and the seconds without the test at its end."""
        self.seen, self.trained = batch + 1, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds this epoch's rows."""
        seconds = time.monotonic() - self.start
        rate = self.seen * self.batch_size / max((self.trained or self.start) - self.start, 1e-9)
        row = {"epoch": epoch + 1, **(logs or {}), "learning_rate": self._learning_rate()}
        row |= {"seconds": seconds, "images_per_second": rate}
        self.epochs.add([{k: _plain(v) for k, v in row.items()}])
        place = {"epoch": epoch + 1, "step": _steps_done(self.model)}
        statistics = self.model.layer_statistics() if self.model.monitor.every else {}
        self.layers.add([{**place, "layer": name, **s} for name, s in statistics.items()])
        if self.verbose:
            left = (self.last - epoch - 1) * seconds
            print(f"  {rate:,.0f} images/s, {_duration(left)} left", flush=True)

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run with a clear error as soon as a loss is not finite; nothing is saved then.

    At the end of an epoch the weights are looked at too: normalization can hide infinite ones.

    Args:
        on_nan: `"stop"`, or `"skip"` where such steps are left out: then it ends after
            `PATIENCE` of them in a row, from which no later step recovers.
    """

    PATIENCE = 50

    def __init__(self, on_nan: str = "stop"):
        super().__init__()
        self.on_nan = on_nan
        self._sizes: Any = None  # of the run's one model

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the losses of this step, or of the steps that were executed in one."""
        self._check((logs or {}).items())
        if self.on_nan == "skip" and self.model.skipped_in_a_row >= self.PATIENCE:
            raise RunError(
                "Of many steps in a row one must have finite losses and gradients; lower "
                "--learning_rate and --resume from the last checkpoint. Received: "
                f"{self.model.skipped_in_a_row} steps left out in a row"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the test's losses and all weights, before the state is saved."""
        self._check((logs or {}).items())
        self._sizes = self._sizes or _sums_of_sizes(self.model)
        names = [f"sum of |{name}|" for name in _names_of_weights(self.model)]
        self._check(zip(names, self._sizes().numpy(), strict=True))

    def _check(self, values: Iterable[tuple[str, Any]]) -> None:
        bad = [f"{name}={float(v)}" for name, v in values if not math.isfinite(float(v))]
        if bad:
            values = ", ".join(bad)
            step = _steps_done(self.model)
            raise RunError(
                "Losses must stay finite, and weights; lower --learning_rate or --beta and "
                f"--resume from the last checkpoint. Received: {values} at step {step}"
            )


def _names_of_weights(model: keras.Model) -> list[str]:
    """Their paths, which student and teacher have in common, behind the names of the networks."""
    networks = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    owner = {id(v): f"{network.name}/" for network in networks for v in network.weights}
    return [owner.get(id(v), "") + v.path for v in model.weights]


def _sums_of_sizes(model: keras.Model) -> Any:
    """A function that returns a sum for each weight, of all copies: one call for all of them."""
    copies = model.distribute_strategy.experimental_local_results
    weights = [copies(variable.value) for variable in model.weights]

    def size(copy: tf.Variable) -> tf.Tensor:
        return tf.reduce_sum(tf.abs(tf.cast(copy, tf.float32)))

    def sums() -> tf.Tensor:
        return tf.stack([tf.add_n([size(copy) for copy in own]) for own in weights])

    return tf.function(sums)


def _steps_done(model: Any) -> int:
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def _plain(value: Any) -> float | int:
    return value if isinstance(value, int) else float(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
