"""When a state is saved, and how weights are looked at."""

import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import errors
from experiments.callbacks import StopOnNaN
from experiments.checkpoints import Position
from experiments.errors import Interrupted, RunError, Terminated
from experiments.history import Table
from experiments.saving import StateSaver
from experiments.workers import Workers
from pkkd_tf.distillation import PKKD
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.optimizers import AdderSGD


class Log:
    """Stands for checkpoints: what is saved, with the rows that are on the disk by then."""

    folder = "checkpoints"

    def __init__(self, table):
        self.table, self.saved = table, []

    def save(self, model, position):
        rows = self.table.path.read_text().split()[1:] if self.table.path.exists() else []
        self.saved.append((*position, rows))


class Single(Workers):
    def average_statistics(self, model):
        """Of one replica there is nothing to average."""


@pytest.fixture
def saver(tmp_path, monkeypatch):
    """Of a run of 6 epochs, of 4 seconds each, that is saved every 10 seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    table = Table(tmp_path / "history.csv")
    workers = Single(tf.distribute.get_strategy())
    saver = StateSaver(Log(table), [table], Position(6, 2), Position(0, 0), 10.0, workers)

    def run(epochs):
        for epoch in epochs:
            saver.on_epoch_begin(epoch)
            for step in range(2):
                now[0] += 2
                saver.on_train_batch_end(step)
            table.add([{"epoch": epoch + 1}])
            saver.on_epoch_end(epoch)

    saver.run = run
    return saver


def test_epochs_are_saved_when_it_is_time_and_the_last_one(saver):
    saver.epochs = 5
    saver.run(range(5))
    saved = [(epoch, step, len(rows)) for epoch, step, rows in saver.checkpoints.saved]
    assert saved == [(3, 0, 3), (5, 0, 5)]


@pytest.mark.parametrize("seconds", [0, 4])
def test_every_epoch_is_saved_where_that_is_asked_for(saver, seconds):
    saver.seconds = seconds
    saver.run(range(6))
    assert [epoch for epoch, *_ in saver.checkpoints.saved] == [1, 2, 3, 4, 5, 6]


def test_sigterm_saves_at_once_with_all_rows(saver):
    saver.run(range(2))
    saver.asked_to_stop = True
    with pytest.raises(Terminated, match="epoch 3, step 1; the state is in checkpoints"):
        saver.run([2])
    assert saver.checkpoints.saved == [(2, 1, ["1", "2"])]


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["caught", "ignored"])
def handlers(request):
    """Of SIGINT, before the run: a script's background jobs ignore it."""
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, request.param)
    yield request.param
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_sigint_does_so_too_unless_it_is_ignored(handlers, saver):
    saver.catch_signals()
    signal.raise_signal(signal.SIGINT)
    if handlers is signal.SIG_IGN:
        saver.run([0])
        assert not saver.checkpoints.saved
        return
    with pytest.raises(Interrupted, match="^SIGINT came at epoch 1, step 1; .*--resume goes on"):
        saver.run([0])
    assert saver.checkpoints.saved == [(0, 1, [])]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # the next ends the process
    assert errors.exit_code(lambda: saver.run([0])) == 130


def test_sigint_after_the_last_step_ends_the_program(handlers, saver):
    saver.catch_signals()
    signal.raise_signal(signal.SIGINT)
    if handlers is signal.SIG_IGN:
        saver.release_signals()
    else:
        with pytest.raises(KeyboardInterrupt):
            saver.release_signals()
    assert signal.getsignal(signal.SIGINT) is handlers


def test_sigint_outside_of_training_is_one_sentence(capsys):
    def main():
        raise KeyboardInterrupt

    assert errors.exit_code(main) == 130
    assert capsys.readouterr().err == "stopped: SIGINT came before the program had ended.\n"


def test_sigterm_in_the_last_step_waits_for_the_end_of_the_epoch(saver):
    saver.on_epoch_begin(0)
    saver.on_train_batch_end(0)
    saver.asked_to_stop = True
    saver.on_train_batch_end(1)
    saver.tables[0].add([{"epoch": 1}])
    with pytest.raises(Terminated, match="epoch 2, step 0"):
        saver.on_epoch_end(0)
    assert saver.checkpoints.saved == [(1, 0, ["1"])]


def test_rows_are_written_once(tmp_path):
    table = Table(tmp_path / "history.csv")
    table.add([])
    table.write()
    assert not table.path.exists()
    table.add([{"epoch": 1}])
    table.write()
    table.path.unlink()
    table.write()
    assert not table.path.exists()


def network():
    layers = keras.Input((2,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1)
    model = keras.Sequential(layers)
    model.compile(AdderSGD(0.1), "mse")
    return model


def pkkd_model():
    def build(role, kind):
        image = keras.Input((4, 4, 1))
        body = kind(2, 3, name="body")(image)
        logits = keras.layers.Dense(10, name="head")(keras.layers.Flatten()(body))
        return keras.Model(image, logits, name=role)

    model = PKKD(build("student", AdderConv2D), build("teacher", keras.layers.Conv2D), "kd")
    model.compile(AdderSGD(0.1))
    return model


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_the_weight_that_is_not_finite_is_named(value):
    stop, model = StopOnNaN(), network()
    stop.set_model(model)
    stop.on_epoch_end(0)
    kernel = np.ones((2, 3))
    kernel[1, 2] = value
    model.get_layer("hidden").kernel.assign(kernel)
    with pytest.raises(RunError, match=r"Received: sum of \|.*hidden/kernel\|=(inf|nan) at step 0"):
        stop.on_epoch_end(1)


def test_every_replicas_copy_is_looked_at(two_replicas):
    with two_replicas.scope():
        model = network()
    stop = StopOnNaN()
    stop.set_model(model)
    stop.on_epoch_end(0)
    variable = model.get_layer("hidden").bias.value
    two_replicas.experimental_local_results(variable)[1].assign(np.full(3, np.nan))
    with pytest.raises(RunError, match=r"Received: sum of \|.*hidden/bias\|=nan at step 0"):
        stop.on_epoch_end(1)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_student_and_teacher_are_told_apart(role):
    stop, model = StopOnNaN(), pkkd_model()
    stop.set_model(model)
    stop.on_epoch_end(0)
    getattr(model, role).get_layer("head").bias.assign(np.full(10, np.inf))
    rule = rf"Received: sum of \|{role}/.*head/bias\|=inf at step 0"
    with pytest.raises(RunError, match=rule):
        stop.on_epoch_end(1)
