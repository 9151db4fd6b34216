"""From where a run stands to its end."""

import functools
from pathlib import Path
from typing import Any

import keras

from experiments import batches, executions
from experiments.callbacks import History, StopOnNaN
from experiments.checkpoints import Checkpoints, Position
from experiments.history import Table
from experiments.saving import StateSaver
from experiments.workers import Workers
from pkkd_tf.distillation import PKKD


def fit(
    model: PKKD,
    data: Any,
    steps: int,
    checkpoints: Checkpoints,
    start: Position,
    folder: Path,
    options: dict[str, Any],
    workers: Workers,
) -> Table:
    """Trains from `start` to the end; a run resumed inside an epoch first finishes that one.

    Args:
        model: compiled, in the state of `start`.
        data: what `pkkd_tf.data.load` gives.
        steps: of an epoch.
        checkpoints: where states are saved.
        start: epoch and step.
        folder: of the tables `history.csv` and `layers.csv`.
        options: the run's flags.
        workers: this process among all.

    Returns:
        The table of epochs.
    """
    tables = [Table(folder / f"{name}.csv", start.epoch) for name in ("history", "layers")]
    end, seconds = Position(options["epochs"], steps), options["checkpoint_seconds"]
    saver = StateSaver(checkpoints, tables, end, start, seconds, workers)
    callbacks = [*_callbacks(tables, steps, folder, options, workers), saver]
    saver.catch_signals()
    try:
        for begin, last in _parts(start, options["epochs"]):
            executions.use(model, options["steps_per_execution"], steps - begin.step)
            _fit_part(model, data, steps, begin, last, callbacks, options, workers)
    finally:  # of epochs that no state was saved after, too
        for table in tables:
            table.write()
    saver.release_signals()  # what comes now is written whole or not at all
    return tables[0]


def _parts(start: Position, epochs: int) -> list[tuple[Position, int]]:
    """Where each call of `fit` begins, and before which epoch it ends."""
    first = start.epoch + 1 if start.step else start.epoch
    parts = [(start, first), (Position(first, 0), epochs)]
    return [(begin, end) for begin, end in parts if begin.epoch < end]


def _callbacks(
    tables: list[Table], steps: int, folder: Path, options: dict[str, Any], workers: Workers
) -> list[keras.callbacks.Callback]:
    """What looks at each epoch before its state is saved; the chief alone writes."""
    stop = StopOnNaN(options["on_nan"])
    if not workers.is_chief:
        return [stop]
    history = History(*tables, options["batch_size"], steps, options["epochs"], options["verbose"])
    if not options["tensorboard"]:
        return [stop, history]
    return [stop, history, keras.callbacks.TensorBoard(str(folder / "tensorboard"))]


def _fit_part(
    model: PKKD,
    data: Any,
    steps: int,
    begin: Position,
    end: int,
    callbacks: list[keras.callbacks.Callback],
    options: dict[str, Any],
    workers: Workers,
) -> None:
    batch = options["batch_size"]
    test_batch = batches.of_test(data.num_test, batch, workers.strategy.num_replicas_in_sync)
    train = functools.partial(data.train, batch, end, *begin)
    test = functools.partial(data.test, test_batch)
    model.fit(
        workers.distribute(train, batch),
        epochs=end,
        initial_epoch=begin.epoch,
        steps_per_epoch=steps - begin.step,
        validation_data=workers.distribute(test, test_batch),
        callbacks=callbacks,
        verbose=options["verbose"] if workers.is_chief else 0,
        shuffle=False,
    )
