"""Several processes train one network: the same one as a single process, and safely."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import worker_program

from experiments.checkpoints import Checkpoints
from experiments.history import Table
from experiments.workers import Workers

FLAGS = [
    *("--nocompare_plain", "--method=kd", "--epochs=6", "--batch_size=16"),
    *("--limit_train=64", "--monitor_every=0", "--verbose=2"),
    "--checkpoint_seconds=0",
]


def launch(*command, **more):
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.launch", "--workers=2", "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **more,
    )


def finished(process, code=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def by_workers(folder, norm):
    """Weights and logs of each of two workers."""
    finished(launch("worker_program", str(folder / norm), norm))
    files = [dict(np.load(folder / f"{norm}.{index}.npz")) for index in range(2)]
    weights = [[v for k, v in sorted(f.items()) if k.startswith("weight")] for f in files]
    logs = {k.removeprefix("log_"): float(v) for k, v in files[0].items() if k.startswith("log")}
    return weights, logs


@pytest.mark.slow
def test_two_replicas_or_two_workers_train_what_one_device_trains(two_replicas, tmp_path):
    alone, expected = worker_program.train(tf.distribute.get_strategy(), "layer")
    replicas, logs = worker_program.train(two_replicas, "layer")
    workers, worker_logs = by_workers(tmp_path, "layer")
    for others in (replicas.get_weights(), *workers):
        for a, b in zip(alone.get_weights(), others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(worker_logs[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["as it is", "distributed"])
def test_an_end_that_cannot_be_foreseen_is_no_warning(kind):
    """Where broken images are left out, nobody knows the number of test batches."""
    rows = tf.data.Dataset.from_tensor_slices((np.ones((5, 1)), np.ones((5, 1))))
    unknown = rows.batch(2).filter(lambda *_: True)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if kind == "distributed":
            Workers(tf.distribute.get_strategy()).distribute(lambda shard: unknown, 2)
        model.fit(rows.batch(1), validation_data=unknown, verbose=0)
    found = any("ran out of data" in str(warning.message) for warning in said)
    assert found == (kind == "as it is")


def moving(model):
    norm = model.student.get_layer("norm")
    return norm.moving_mean.numpy(), norm.moving_variance.numpy()


@pytest.mark.slow
def test_statistics_of_a_replica_are_near_those_of_the_batch(two_replicas):
    """Each replica normalises by its half of the batch: by other numbers, but not far ones.

    A mean over 8 images is the mean over 16 give or take deviation / sqrt(16), so one replica's
    moving mean stays within the deviation of the layer's response; synchronised, it is the same.
    """
    alone, _ = worker_program.train(tf.distribute.get_strategy(), "batch")
    shared, _ = worker_program.train(two_replicas, "batch")
    mean, variance = moving(alone)
    differences = np.abs(moving(shared)[0] - mean) / np.sqrt(variance)
    assert 0 < differences.max() < 1


def start(folder, *flags):
    command = "experiments.digits", f"--output={folder}", *FLAGS, *flags
    return launch(*command, preexec_fn=as_from_a_terminal)


def as_from_a_terminal():
    """In the launcher: a group of processes, whom Ctrl-C reaches all."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def weights(folder):
    networks = [keras.models.load_model(folder / f"{n}.keras") for n in ("student", "teacher")]
    return [w for network in networks for w in network.get_weights()]


def newest(folder):
    return Checkpoints(folder / "checkpoints", {}).newest()


def wait_for_checkpoint(folder, process, before=None):
    deadline = time.monotonic() + 280
    while newest(folder) == before:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two workers that nothing disturbs: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("workers") / "whole"
    return folder, finished(start(folder))


@pytest.mark.slow
def test_only_the_first_worker_writes(whole):
    folder, output = whole
    names = {path.name for path in folder.iterdir()}
    assert {"student.keras", "teacher.keras", "history.csv", "report.md"} <= names
    assert Table(folder / "history.csv", 99).column("epoch") == [*range(1, 7)]
    assert not [path for path in folder.rglob("*") if "partial" in path.name]
    assert re.search(r"^\[0\] student ", output, re.M)
    assert not re.search(r"^\[1\] (student|Epoch|report)", output, re.M)


@pytest.mark.slow
def test_when_a_worker_is_killed_all_stop_and_a_restart_goes_on(whole, tmp_path):
    """First one, and in the restart the other, which goes on once more."""
    folder = tmp_path / "killed"
    for victim in range(2):
        before = newest(folder)
        process = start(folder, "--requeue")
        wait_for_checkpoint(folder, process, before)
        began = time.monotonic()
        os.kill(workers_of(process)[victim], signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 137 and time.monotonic() - began < 100
        assert f"worker {victim} ended with exit code 137" in output
    finished(start(folder, "--requeue"))
    for resumed, undisturbed in zip(weights(folder), weights(whole[0]), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)


SIGNALS = {
    "SIGTERM": (143, lambda process: os.kill(workers_of(process)[1], signal.SIGTERM)),
    "SIGINT": (130, lambda process: os.killpg(process.pid, signal.SIGINT)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("SIGTERM", marks=pytest.mark.slow),
        pytest.param("SIGINT", marks=pytest.mark.long),
    ],
)
def test_signals_stop_all_workers_after_the_same_step(whole, tmp_path, name):
    """SIGTERM to one of them, Ctrl-C to them and the launcher."""
    folder, (code, send) = tmp_path / "terminated", SIGNALS[name]
    process = start(folder)
    wait_for_checkpoint(folder, process)
    send(process)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code and "Traceback" not in output
    stopped = re.findall(rf"^\[(\d)\] stopped: {name} came at (epoch \d+, step \d+);", output, re.M)
    assert {index for index, _ in stopped} == {"0", "1"} and len({p for _, p in stopped}) == 1
    finished(start(folder, "--resume"))
    for resumed, undisturbed in zip(weights(folder), weights(whole[0]), strict=True):
        np.testing.assert_allclose(resumed, undisturbed, rtol=1e-5, atol=1e-6)


def workers_of(process):
    """Process numbers of a launcher's children, in their order."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return sorted(map(int, children.split()))
