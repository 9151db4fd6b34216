"""Runs of the programs: what they leave, and what they do when they are interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags as absl_flags
from absl.testing import flagsaver

import pkkd_tf
from benchmarks import rows
from experiments import devices, flags, programs, results, training
from experiments.callbacks import StopOnNaN
from experiments.checkpoints import Checkpoints
from experiments.errors import RunError
from experiments.history import Table
from experiments.saving import StateSaver
from pkkd_tf.optimizers import AdderSGD
from tests.experiments.test_checkpoints import tear

TINY = ["--epochs=3", "--batch_size=16", "--limit_train=64", "--monitor_every=2", "--verbose=0"]
TINY += ["--checkpoint_seconds=0"]


@pytest.fixture
def options(defined):
    return parsed


@flagsaver.flagsaver
def parsed(output, *arguments):
    absl_flags.FLAGS(["test", f"--output={output}", *TINY, *arguments])
    return flags.values()


def weights(folder):
    networks = [keras.models.load_model(folder / f"{n}.keras") for n in ("student", "teacher")]
    return [w for network in networks for w in network.get_weights()]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, defined):
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    training.run("digits", "digits", parsed(folder))
    return folder


@pytest.mark.slow
def test_output_folder(whole):
    files = {path.name for path in whole.iterdir()}
    wanted = "student.keras teacher.keras history.csv layers.csv report.json report.md"
    assert set(wanted.split()) <= files
    assert {"learning_curves.png", "filters.png", "layers.png"} <= files
    report = json.loads((whole / "report.json").read_text())
    assert report["flags"]["epochs"] == 3 and report["method"] == "pkkd"
    assert report["flags"]["data_placement"] in ("host", "device")  # what auto came to
    assert 0 <= report["accuracies"]["student"]["final"] <= 1
    assert (
        report["counts"]["student"]["multiplications"]
        < 0.1 * (report["counts"]["teacher"]["multiplications"])
    )
    history = Table(whole / "history.csv", 99)
    assert history.column("epoch") == [1, 2, 3]
    assert all(len(history.column(c)) == 3 for c in ("feature_loss", "kd_loss", "learning_rate"))


def command(folder, *arguments):
    return [sys.executable, "-m", "experiments.digits", f"--output={folder}", *TINY, *arguments]


def wait_for(path, process):
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def start(folder, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command(folder, "--nocompare_plain", *arguments),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=heed_sigint,
    )


def heed_sigint():
    """In the child, which would ignore it where the tests are a script's background job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(whole, options, tmp_path):
    folder = tmp_path / "killed"
    process = start(folder)
    wait_for(folder / "checkpoints" / "epoch_00001_step_0000000.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (folder / "student.keras").exists()
    summary = training.run("digits", "digits", options(folder, "--resume"))
    for resumed, undisturbed in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    history = Table(folder / "history.csv", 99)
    assert history.column("epoch") == [1, 2, 3]
    assert summary["times"]["total_seconds"] == pytest.approx(sum(history.column("seconds")))


@pytest.mark.slow
def test_a_run_resumed_epochs_before_its_end_keeps_the_rows_of_its_state(
    whole, options, tmp_path, monkeypatch
):
    """Only the first of two epochs was saved, though both are in the tables."""
    folder, check = tmp_path / "late", StopOnNaN.on_epoch_end

    def fail(self, epoch, logs=None):
        check(self, epoch, logs)
        if epoch == 2:
            raise RunError("the end")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="the end"):
        patch.setattr(StateSaver, "_is_due", lambda saver: saver.epoch == 1)
        patch.setattr(StopOnNaN, "on_epoch_end", fail)
        training.run("digits", "digits", options(folder))
    assert Table(folder / "history.csv", 99).column("epoch") == [1, 2]
    newest = Checkpoints(folder / "checkpoints", {}).newest()
    assert newest.stem == "epoch_00001_step_0000000"
    training.run("digits", "digits", options(folder, "--resume"))
    for resumed, undisturbed in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    assert (folder / "layers.csv").read_text() == (whole / "layers.csv").read_text()
    ours, theirs = (Table(f / "history.csv", 99) for f in (folder, whole))
    for name in ("epoch", "loss", "val_accuracy"):
        assert ours.column(name) == theirs.column(name)


@pytest.mark.slow
@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130)])
def test_signals_save_in_the_middle_of_an_epoch(whole, options, tmp_path, name, code):
    folder = tmp_path / "terminated"
    process = start(folder)
    wait_for(folder / "checkpoints" / "epoch_00001_step_0000000.json", process)
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate()
    assert process.returncode == code, errors
    assert f"{name} came at epoch" in errors and "--resume goes on" in errors
    assert "Traceback" not in errors
    training.run("digits", "digits", options(folder, "--resume"))
    for resumed, undisturbed in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end(whole, options, tmp_path, monkeypatch):
    """The sentence names the file, and `--resume` writes what is missing."""
    folder = copy(whole, tmp_path)
    for name in ("report.json", "student.keras"):
        (folder / name).unlink()

    def full(*paths):
        raise OSError(28, "No space left on device")

    match = rf"All results must be written; .*--resume .*Received: .*'{folder}/student.keras'"
    with monkeypatch.context() as patch, pytest.raises(RunError, match=match):
        patch.setattr(os, "replace", full)
        training.run("digits", "digits", options(folder, "--resume"))
    training.run("digits", "digits", options(folder, "--resume"))
    assert (folder / "report.json").exists() and (folder / "student.keras").exists()


@pytest.mark.slow
def test_batches_made_on_the_device_end_a_run_with_the_same_weights(whole, options, tmp_path):
    folder = copy(whole, tmp_path)
    newest = Checkpoints(folder / "checkpoints", {}).newest()
    assert newest.stem == "epoch_00003_step_0000000"
    newest.unlink()
    flags = "--resume", "--data_placement=device"
    summary = training.run("digits", "digits", options(folder, *flags))
    assert summary["flags"]["data_placement"] == "device"
    for resumed, undisturbed in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)


@pytest.mark.slow
def test_of_a_torn_checkpoint_the_one_before_is_used(whole, options, tmp_path, capsys):
    folder = copy(whole, tmp_path)
    newest = Checkpoints(folder / "checkpoints", {}).newest()
    tear(newest.with_suffix(".keras"))
    training.run("digits", "digits", options(folder, "--resume"))
    warning = "warning: going on from epoch_00002_step_0000000.json: epoch_00003_step_0000000.keras"
    assert f"{warning} is damaged: its SHA-256" in capsys.readouterr().err
    for resumed, undisturbed in zip(weights(folder), weights(whole), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    assert Table(folder / "history.csv", 99).column("epoch") == [1, 2, 3]


@pytest.mark.slow
def test_requeue_starts_and_goes_on(whole, options, tmp_path):
    folder = copy(whole, tmp_path)
    summary = training.run("digits", "digits", options(folder, "--requeue"))
    assert summary["accuracies"]["student"]["final"] >= 0
    (new := tmp_path / "new" / "checkpoints").mkdir(parents=True)
    (new / "partial_epoch_00001_step_0000000.keras").write_bytes(b"half")  # killed while saving
    training.run("digits", "digits", options(new.parent, "--requeue", "--epochs=1"))
    assert Table(new.parent / "history.csv", 99).column("epoch") == [1]


@pytest.mark.long
def test_annealing_resumes_to_the_same_weights(options, tmp_path):
    """From the state after two of three epochs, in the midst of the annealing."""
    flags = "--method=plain", "--l2_anneal=0.9"
    folders = tmp_path / "whole", tmp_path / "resumed"
    training.run("digits", "digits", options(folders[0], *flags))
    shutil.copytree(folders[0] / "checkpoints", folders[1] / "checkpoints")
    for path in (folders[1] / "checkpoints").glob("epoch_00003*"):
        path.unlink()
    with pytest.raises(RunError, match="l2_anneal: 0.9 -> None"):
        training.run("digits", "digits", options(folders[1], flags[0], "--resume"))
    training.run("digits", "digits", options(folders[1], *flags, "--resume"))
    whole, resumed = (keras.models.load_model(f / "student.keras") for f in folders)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_foreign_checkpoint_is_refused(whole, options, tmp_path):
    folder = copy(whole, tmp_path)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    with pytest.raises(RunError, match="settings it was started with. .*seed: 0 -> 1"):
        training.run("digits", "digits", options(folder, "--resume", "--seed=1"))
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.slow
def test_new_flags_do_not_shut_out_runs_begun_before_them(whole):
    """A flag that comes into being needs a place in FREE or NEUTRAL; these have been there."""
    newest = max((whole / "checkpoints").glob("epoch_*.json"))
    identity = sorted(json.loads(newest.read_text())["identity"])
    assert (
        identity
        == (
            "alpha augmentation batch_size beta dataset deterministic epochs eta "
            "feature_share image_size input_gradient kernel learning_rate limit_train "
            "matched_layers method model momentum monitor_every num_classes precision "
            "response seed skip_broken_images smoke student_alignment "
            "teacher teacher_gradient teacher_side teacher_sign temperature weight_decay"
        ).split()
    )


def install(monkeypatch, spec):
    """Whether TensorBoard is found."""
    util = SimpleNamespace(find_spec=lambda name: spec)
    monkeypatch.setattr(training, "importlib", SimpleNamespace(util=util))


@pytest.mark.slow
@pytest.mark.parametrize("given", [[], ["--tensorboard"]])
def test_tensorboard_is_written_where_it_is_asked_for(options, tmp_path, monkeypatch, given):
    found = []

    def fit(model, data, callbacks, **kwargs):
        found.extend(c for c in callbacks if isinstance(c, keras.callbacks.TensorBoard))

    install(monkeypatch, "tensorboard")
    monkeypatch.setattr(pkkd_tf.PKKD, "fit", fit)
    monkeypatch.setattr(training.results, "write", lambda *_: None)
    training.run("digits", "digits", options(tmp_path, "--method=cnn", *given))
    assert len(found) == len(given)


def test_missing_tensorboard(options, tmp_path, monkeypatch):
    install(monkeypatch, None)
    with pytest.raises(RunError, match="--tensorboard needs `pip install tensorboard`. Received"):
        training.run("digits", "digits", options(tmp_path, "--method=cnn", "--tensorboard"))


@pytest.mark.slow
def test_used_folder_is_not_overwritten(whole, options):
    with pytest.raises(RunError, match="must be a new folder, or --resume"):
        training.run("digits", "digits", options(whole))


def test_resume_without_checkpoint(options, tmp_path):
    with pytest.raises(RunError, match="needs a checkpoint in --output"):
        training.run("digits", "digits", options(tmp_path / "new", "--resume"))


def test_flags_that_contradict_each_other(options, tmp_path):
    flags = "--augmentation=none", "--augmentation=mixup"
    with pytest.raises(ValueError, match="must be 'none' or different"):
        training.run("digits", "digits", options(tmp_path / "run", *flags))


FEATURES = [
    "--beta=0.0", "--feature_share=0.3", "--matched_layers=all", "--kernel=identity",
    "--teacher_sign=-1", "--response=raw", "--nostudent_alignment", "--teacher_side=trained",
    "--teacher_gradient",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "given", "rule"),
    [
        *[(method, flag, "--method=pkkd") for method in ("kd", "cnn") for flag in FEATURES],
        ("plain", "--alpha=2", "--method=pkkd or kd"),
        ("cnn", "--temperature=4", "--method=pkkd or kd"),
        ("plain", "--teacher=t.keras", "--method=pkkd or kd"),
        ("cnn", "--l2_anneal=0.5", "an adder network"),
        ("cnn", "--eta=0.1", "an adder network"),
        ("cnn", "--input_gradient=sign", "an adder network"),
        ("kd", "--input_gradient=sign --student=s.keras", "no --student"),
        ("plain", "--compare_plain", "another --method than plain"),
        ("pkkd", "--feature_share=0.2 --beta=0.1", "no --beta"),
        ("pkkd", "--teacher_sign=-1 --kernel=identity", "--kernel=exponential"),
        ("pkkd", "--logical_devices=2 --strategy=one_device", "--strategy=mirrored"),
        ("kd", "--autoclustering --jit_compile", "no --jit_compile"),
    ],
)
def test_flags_that_would_do_nothing(options, tmp_path, method, given, rule):
    name = given.split()[0].lstrip("-").removeprefix("no").split("=")[0]
    values = options(tmp_path / "run", f"--method={method}", *given.split())
    with pytest.raises(RunError) as error:
        programs.run("digits", "digits", values)
    text = str(error.value)
    assert text.startswith(
        f"--{name} needs {rule}, else it does nothing. Received: method={method}"
    )
    assert f"{name}=" in text and not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_flags_of_the_published_rows_all_do_something(options, tmp_path, dataset):
    for row in rows.rows(dataset):
        given = [flag for flag in row.flags() if not flag.startswith("--flagfile")]
        file = next(flag for flag in row.flags() if flag.startswith("--flagfile"))
        lines = Path(file.removeprefix("--flagfile=")).read_text().splitlines()
        shipped = [x for x in lines if x.startswith("--") and not x.startswith("--dataset")]
        flags.check_effect(options(tmp_path, *shipped, *given))


def test_seeds_end_where_numpys_do(options, tmp_path):
    assert options(tmp_path, f"--seed={2**32 - 1}")["seed"] == 2**32 - 1
    with pytest.raises(absl_flags.IllegalFlagValueError, match="--seed=4294967296: .*4294967295"):
        options(tmp_path, f"--seed={2**32}")


def test_nan_loss_ends_the_run(options, tmp_path):
    folder = tmp_path / "nan"
    with pytest.raises(RunError, match="Losses must stay finite.*Received: .*loss=.*at step"):
        training.run("digits", "digits", options(folder, "--method=cnn", "--learning_rate=1e30"))
    assert not (folder / "student.keras").exists()


@pytest.mark.slow
def test_losses_that_never_are_finite_end_a_run_that_skips(options, tmp_path, monkeypatch):
    monkeypatch.setattr(StopOnNaN, "PATIENCE", 3)
    flags = "--method=cnn", "--learning_rate=1e30", "--on_nan=skip", "--epochs=9"
    with pytest.raises(RunError, match="one must have finite losses.*Received: 3 steps left out"):
        training.run("digits", "digits", options(tmp_path / "nan", *flags))
    skipped = Table(tmp_path / "nan" / "history.csv", 99).column("skipped_steps")
    assert all(0 <= count <= 4 for count in skipped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "in_a_row"),
    [("0111" "1101", None), ("0111" "1111", 7), ("1110" "0000", None), ("0001" "1110", None)],
)  # fmt: skip
def test_steps_in_a_row_are_counted_one_by_one(monkeypatch, bad, in_a_row):
    """Two epochs of four steps that are executed in one."""
    monkeypatch.setattr(StopOnNaN, "PATIENCE", 5)
    model = pkkd_tf.PKKD(pkkd_tf.models.build("digits_resnet"), method="plain", monitor_every=0)
    model.compile(AdderSGD(0.1), steps_per_execution=4, skip_nonfinite=True)
    step = np.repeat([float(x) for x in bad], 8)[:, None, None, None]
    images = np.where(step == 1, np.nan, np.ones((64, 8, 8, 1))).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.zeros(64, "int64"))).batch(8)
    options = {"epochs": 2, "steps_per_epoch": 4, "verbose": 0, "callbacks": [StopOnNaN("skip")]}
    if in_a_row is None:
        skipped = model.fit(data, **options).history["skipped_steps"]
        assert skipped == [bad[:4].count("1"), bad[4:].count("1")]
    else:
        with pytest.raises(RunError, match=f"Received: {in_a_row} steps left out in a row"):
            model.fit(data, **options)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "plain", "cnn"])
def test_other_methods(options, tmp_path, method):
    summary = training.run("digits", "digits", options(tmp_path / method, f"--method={method}"))
    assert set(summary["accuracies"]) == ({"student", "teacher"} if method == "kd" else {"student"})


@pytest.mark.slow
def test_fixed_teacher(whole, options, tmp_path):
    trained = whole / "teacher.keras"
    folder = tmp_path / "fixed"
    training.run("digits", "digits", options(folder, f"--teacher={trained}", "--epochs=1"))
    kept, given = (keras.models.load_model(f / "teacher.keras") for f in (folder, whole))
    for a, b in zip(kept.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_teacher(options, tmp_path):
    with pytest.raises(RunError, match="--teacher must be an existing .keras file"):
        training.run("digits", "digits", options(tmp_path / "x", "--teacher=nowhere.keras"))


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


AFTERWARDS = """
import os, signal, sys
from experiments import flags, programs, results
from absl import app
write = results.write

def writing(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return write(*arguments)

results.write = writing
flags.define(model="digits_resnet", compare_plain=True)
app.run(lambda argv: programs.run("digits", "digits", flags.values()))
"""


@pytest.mark.slow
def test_sigterm_between_two_runs_ends_the_program(tmp_path):
    """It comes while results are written; the second run, of the plain student, never starts."""
    command = [sys.executable, "-c", AFTERWARDS, f"--output={tmp_path / 'run'}", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert not (tmp_path / "run" / "plain").exists()


def test_one_strategy_for_all_runs_of_a_process():
    """A second one numbers its sums over replicas from the start again, and TensorFlow aborts."""
    assert devices.make_strategy("mirrored") is devices.make_strategy("mirrored")


def test_output_that_cannot_be_written_is_seen_before_the_data(options, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"mine")
    monkeypatch.setattr(training, "load_data", lambda *_: pytest.fail("it reads"))
    with pytest.raises(RunError, match="folder that can be made and written. .*/file cannot"):
        training.run("digits", "digits", options(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], {"batch_size": 8, "limit_train": 32, "monitor_every": 2, "steps_per_execution": 1}),
        (["--monitor_every=1"], {"monitor_every": 1}),
        (["--beta=0.01", "--monitor_every=0"], {"monitor_every": 0, "beta": 0.01}),
        (["--accumulate_steps=16"], {"batch_size": 16, "limit_train": 64}),
        (["--accumulate_steps=3"], {"batch_size": 9, "limit_train": 36}),
        (["--logical_devices=2", "--accumulate_steps=5"], {"batch_size": 10}),
        (["--steps_per_execution=5"], {"steps_per_execution": 2}),
    ],
)
def test_a_smoke_run_is_the_run_asked_for(options, arguments, expected, tmp_path):
    found = training._smoke(options(tmp_path / "run", *arguments))
    assert found["epochs"] == 1 and {name: found[name] for name in expected} == expected


def test_a_teacher_of_other_layers_keeps_no_report_back(tmp_path, monkeypatch):
    student = pkkd_tf.models.build("digits_resnet", "adder")
    pixels = keras.Input((8, 8, 1))
    teacher = keras.Model(pixels, keras.layers.Dense(10)(keras.layers.Flatten()(pixels)))
    history = Table(tmp_path / "history.csv")
    row = {"epoch": 1, "accuracy": 0.5, "val_accuracy": 0.5, "loss": 1.0, "val_loss": 1.0}
    history.add([row | {"learning_rate": 0.1, "ce_loss": 1.0, "val_ce_loss": 1.0}])
    history.write()
    names, fits, notes = results.draw(tmp_path, {"student": student, "teacher": teacher})
    assert "filters.png" in names and list(fits) == ["student"]
    assert notes[0].startswith(
        "The teacher's filters were not drawn: it has no layers named stage1"
    )
