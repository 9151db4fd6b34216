"""When the state of a run is saved, and how SIGTERM and SIGINT (Ctrl-C) end it."""

import signal
import time
from collections.abc import Sequence
from typing import Any

import keras

from experiments.checkpoints import Checkpoints, Position
from experiments.errors import Interrupted, Terminated
from experiments.history import Table
from experiments.workers import Workers


class StateSaver(keras.callbacks.Callback):
    """Saves the training state after epochs, and after the step in which a signal came.

    SIGTERM and the first SIGINT end the run so; a second SIGINT ends the process at once.

    Args:
        checkpoints: where to.
        tables: logs of the run, written just before: the rows of a saved epoch are on the disk.
        end: the run's last epoch, after which the state is saved, and steps an epoch.
        start: where this part of the run begins.
        seconds: least time from one save to the end of the epoch that is saved next.
        workers: those of the run; a signal to one of them stops all after the same step.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        tables: Sequence[Table],
        end: Position,
        start: Position,
        seconds: float,
        workers: Workers,
    ):
        super().__init__()
        self.checkpoints, self.tables, self.workers = checkpoints, tables, workers
        self.epochs, self.steps = end
        self.epoch, self.step = start
        self.seconds, self.saved = seconds, time.monotonic()
        self.asked_to_stop = self.interrupted = False
        # Ignored in a script's background jobs, whose terminal's Ctrl-C is for another program.
        self.ignores_sigint = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def catch_signals(self) -> None:
        """From now on SIGTERM and the first SIGINT end the run after the step in progress."""
        signal.signal(signal.SIGTERM, self._on_signal)
        if not self.ignores_sigint:
            signal.signal(signal.SIGINT, self._on_signal)

    def release_signals(self) -> None:
        """From now on they end the program, as does one that came after the last step."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self.ignores_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.asked_to_stop:
            signal.raise_signal(signal.SIGINT if self.interrupted else signal.SIGTERM)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.asked_to_stop = True
        if number == signal.SIGINT:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the steps; leaves if a signal came (a last step is left to the epoch's end)."""
        self.step = self.first + batch + 1
        if self.step < self.steps and self.workers.any(self.asked_to_stop):
            self._save(Position(self.epoch, self.step))
            raise self._end()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the first step of the epoch: not 0 where a run was resumed in the middle of it."""
        self.first = self.step if epoch == self.epoch else 0
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the state if it is time. Comes after `History`, whose rows belong to it."""
        self.epoch, self.step = epoch + 1, 0
        stop = self.workers.any(self.asked_to_stop)
        if stop or self.epoch == self.epochs or self._is_due():
            self._save(Position(self.epoch, 0))
        if stop:
            raise self._end()

    def on_test_begin(self, logs: Any = None) -> None:
        """What is tested is what is saved: one network, whatever the number of replicas."""
        self.workers.average_statistics(self.model)

    def _is_due(self) -> bool:
        """By the first worker's clock."""
        due = time.monotonic() - self.saved >= self.seconds
        return self.workers.any(self.workers.is_chief and due)

    def _save(self, position: Position) -> None:
        self.workers.average_statistics(self.model)
        self.workers.on_chief(lambda: self._write(position))
        self.saved = time.monotonic()

    def _write(self, position: Position) -> None:
        for table in self.tables:
            table.write()
        self.checkpoints.save(self.model, position)

    def _end(self) -> Terminated:
        interrupted = self.workers.any(self.interrupted)
        error, name = (Interrupted, "SIGINT") if interrupted else (Terminated, "SIGTERM")
        return error(
            f"{name} came at epoch {self.epoch + 1}, step {self.step}; the state is in "
            f"{self.checkpoints.folder}, --resume goes on from there."
        )
