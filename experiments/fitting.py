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
    """Trains from `start` to the end; a run resumed inside an epoch first finishes that one."""
    epochs, batch = options["epochs"], options["batch_size"]
    test_batch = batches.of_test(data.num_test, batch, workers.strategy.num_replicas_in_sync)
    verbose = options["verbose"] if workers.is_chief else 0
    tables = [Table(folder / f"{name}.csv", start.epoch) for name in ("history", "layers")]
    seconds = options["checkpoint_seconds"]
    saver = StateSaver(checkpoints, tables, Position(epochs, steps), start, seconds, workers)
    saver.catch_signals()
    written = [History(*tables, batch, steps, epochs, verbose)]
    if options["tensorboard"]:
        written.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
    callbacks = [StopOnNaN(options["on_nan"]), *(written if workers.is_chief else []), saver]
    first = start.epoch + 1 if start.step else start.epoch
    parts = [(start, first), (Position(first, 0), epochs)]
    try:
        for begin, end in parts:
            if begin.epoch < end:
                executions.use(model, options["steps_per_execution"], steps - begin.step)
                model.fit(
                    workers.distribute(functools.partial(data.train, batch, end, *begin), batch),
                    epochs=end,
                    initial_epoch=begin.epoch,
                    steps_per_epoch=steps - begin.step,
                    validation_data=workers.distribute(
                        functools.partial(data.test, test_batch), test_batch
                    ),
                    callbacks=callbacks,
                    verbose=verbose,
                    shuffle=False,
                )
    finally:  # of epochs that no state was saved after, too
        for table in tables:
            table.write()
    saver.release_signals()  # what comes now is written whole or not at all
    return tables[0]
