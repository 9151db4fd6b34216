"""Several steps a call of TensorFlow: what is refused, and that results do not depend on it."""

import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import executions, flags, training
from experiments.callbacks import StopOnNaN
from experiments.errors import RunError, Terminated
from experiments.history import Table

TINY = ["--epochs=2", "--batch_size=16", "--limit_train=64", "--monitor_every=2", "--verbose=0"]


@flagsaver.flagsaver
def run(output, *arguments):
    absl_flags.FLAGS(["test", f"--output={output}", "--method=kd", *TINY, *arguments])
    return training.run("digits", "digits", flags.values())


@pytest.fixture(scope="session")
def single(tmp_path_factory, defined):
    """A run of one step a call."""
    folder = tmp_path_factory.mktemp("executions") / "single"
    run(folder)
    return folder


def same_networks(folder, expected):
    for name in ("student.keras", "teacher.keras"):
        ours, theirs = (keras.models.load_model(f / name).get_weights() for f in (folder, expected))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_number_that_leaves_a_rest_is_refused(defined, tmp_path):
    divisors = "steps_per_execution=3, 4 steps, whose divisors are 1, 2, 4"
    with pytest.raises(RunError, match=f"must divide the steps of an epoch. Received: {divisors}"):
        run(tmp_path / "run", "--steps_per_execution=3")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("steps", "calls"), [(3, 3), (6, 3), (8, 2)])
def test_an_epoch_is_as_long_as_asked(steps, calls):
    """After a call of four steps was traced, too."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=4)
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=1, verbose=0)
    ends = []

    class Counter(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(batch)

    executions.use(model, 4, steps)
    images = np.ones((20, 1))
    model.fit(images, images, batch_size=1, steps_per_epoch=steps, verbose=0, callbacks=[Counter()])
    assert int(model.optimizer.iterations) == 4 + steps
    assert (len(ends), ends[-1]) == (calls, steps - 1)


@pytest.mark.slow
def test_results_do_not_depend_on_it(single, tmp_path):
    run(tmp_path / "run", "--steps_per_execution=4")
    same_networks(tmp_path / "run", single)
    ours, theirs = (Table(f / "history.csv", 99) for f in (tmp_path / "run", single))
    for name in ("kd_loss", "val_accuracy", "learning_rate"):
        assert ours.column(name) == theirs.column(name)


@pytest.mark.parametrize(
    "first",
    [pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.slow)],
)
def test_the_rest_of_an_epoch_is_exact(single, tmp_path, monkeypatch, first):
    """Stopped after three steps of four, or two, and gone on with four a call."""
    folder, calls = tmp_path / "run", []

    def stop(self, batch, logs=None):
        calls.append(batch)
        if batch == 3 - first:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Terminated, match="epoch 1, step"):
        patch.setattr(StopOnNaN, "on_train_batch_end", stop)
        run(folder, f"--steps_per_execution={first}")
    signal.signal(signal.SIGTERM, before)
    position = json.loads(next((folder / "checkpoints").glob("*.json")).read_text())
    assert (position["epoch"], position["step"]) == (0, 4 - first)
    run(folder, "--steps_per_execution=4", "--resume")
    same_networks(folder, single)


@pytest.mark.slow
def test_checkpoints_that_hold_it_are_gone_on_with(single, tmp_path):
    """Those from before it could be changed."""
    folder = shutil.copytree(single, tmp_path / "copy")
    for path in (folder / "checkpoints").glob("*.json"):
        record = json.loads(path.read_text())
        record["identity"]["steps_per_execution"] = 1
        path.write_text(json.dumps(record))
    run(folder, "--steps_per_execution=2", "--resume")
    same_networks(folder, single)
