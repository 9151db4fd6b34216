"""The queue of trainings: what it runs, what it leaves, how it is cut off and goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import results_table, rows
from benchmarks.reproduce import Queue
from benchmarks.trainings import Run, check_flags
from experiments.errors import RunError

NAME = "cifar10_resnet20_plain_1_epochs_batch_8_seed_0"


@pytest.fixture
def images(tmp_path):
    """A data set of a few random images."""
    random, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 480), ("test", 16)):
        shape = (count, 32, 32, 3)
        np.save(folder / f"{split}_images.npy", random.integers(0, 256, shape, np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(count) % 10)
    return folder


def start(folder, images, *more, row="resnet20/plain"):
    command = [sys.executable, "-m", "benchmarks.reproduce", f"--data_dir={images}"]
    command += [f"--output={folder / 'runs'}", f"--results={folder / 'results'}", "--seeds=1"]
    command += [f"--rows={row}", "--epochs=1", "--batch_size=8", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_every_row_can_be_parsed():
    """Its flags, by the program itself; and every flagfile is there."""
    known = [row for dataset in ("cifar10", "cifar100") for row in rows.rows(dataset)]
    lines = [["experiments.cifar", *row.flags()] for row in known]
    program = f"""
from absl import flags
from experiments import cifar, flags as shared
shared.define()
flags.DEFINE_enum("dataset", "cifar10", ("cifar10", "cifar100"), "")
for line in {lines!r}:
    flags.FLAGS.unparse_flags()
    flags.FLAGS(line)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2 * (10 + len(rows.CHOICES)) == len({str(line) for line in lines})


def test_names_stand_for_rows():
    published = rows.chosen("cifar10", ["published"])
    assert [row.published() for row in published[:4]] == [92.93, 92.02, None, 92.96]
    both = rows.chosen("cifar10", ["resnet20/pkkd/beta_0.01", "resnet20/kd", "resnet20/kd"])
    assert [row.name for row in both] == ["resnet20/pkkd/beta_0.01", "resnet20/kd"]
    with pytest.raises(ValueError, match="must be one of published, choices.* Received: 'r20'"):
        rows.chosen("cifar10", ["r20"])


def test_a_fixed_teacher_is_trained_before():
    cnn, pupil = rows.chosen("cifar10", ["resnet20/kd/fixed_teacher"])
    assert (cnn.name, pupil.teacher, cnn.teacher) == ("resnet20/cnn", cnn, None)
    name = "cifar10_resnet20_cnn_2_epochs_batch_256_seed_3"
    options = {"data_dir": "data", "output": "runs"}
    command = Run(pupil, 3, 2, 256).command(options)
    assert f"--teacher=runs/{name}/student.keras" in command
    assert Run(cnn, 3, 2, 256).name == name
    assert not any(word.startswith("--teacher=") for word in Run(cnn, 3, 2, 256).command(options))


PKKD = rows.Row("cifar10", "resnet20", "pkkd")
SHARE = rows.Row("cifar10", "resnet20", "pkkd", "share_0.03")


@pytest.mark.parametrize(
    ("row", "flag"),
    [
        *((PKKD, f"--{name}=3") for name in ("epochs", "seed", "batch_size", "flagfile")),
        *((PKKD, f"--{name}") for name in ("smoke", "nosmoke", "model=vgg_small", "method=kd")),
        (SHARE, "--feature_share=0.2"),
        (SHARE, "-feature_share=0.2"),
    ],
)
def test_flags_that_the_queue_sets_are_refused(row, flag):
    rule = "--flag must not set what the queue or one of the rows sets. Received: flag="
    with pytest.raises(RunError, match=f"^{rule}{flag}; "):
        check_flags(["--precision=float32", flag], [Run(row, 0, 2, 256)])


@pytest.mark.parametrize("flag", ["", "3", "precision=float32", "--precision float32", "--=3"])
def test_what_is_no_flag_is_refused(flag):
    with pytest.raises(RunError, match=f"must be one flag, .* Received: flag={flag}$"):
        check_flags([flag], [])


def test_flags_that_change_results_make_another_run():
    """Others do not; nor does the order."""
    plain = Run(PKKD, 1, 2, 256)
    quick = Run(PKKD, 1, 2, 256, ("--noautoclustering", "--steps_per_execution=39"))
    assert quick.name == plain.name and quick.changed == []
    for flag in ("--on_nan=skip", "--strategy=mirrored", "--logical_devices=2"):
        assert Run(PKKD, 1, 2, 256, (flag,)).changed == [flag]
    flags = "--precision=mixed_bfloat16", "--limit_train=100", "--nostudent_alignment"
    check_flags(flags, [plain])
    trial, other = Run(PKKD, 1, 2, 256, flags), Run(PKKD, 1, 2, 256, flags[::-1])
    more = "limit_train_100_precision_mixed_bfloat16_nostudent_alignment"
    assert trial.name == other.name == f"cifar10_resnet20_pkkd_2_epochs_batch_256_{more}_seed_1"
    options = {"data_dir": "data", "output": "runs"}
    assert trial.command(options)[-3:] == list(flags)
    assert trial.folder(options) != plain.folder(options)


def test_every_run_has_its_own_log(tmp_path):
    """A choice has a dot in its name."""
    runs = [Run(rows.Row("cifar10", "resnet20", "pkkd", f"share_0.0{n}"), 0, 2, 256) for n in "13"]
    options = {"output": str(tmp_path / "runs"), "results": str(tmp_path / "results")}
    queue = Queue(runs, options)
    logs = [queue._log(run) for run in runs]
    assert [log.name for log in logs] == [f"{run.name}.log" for run in runs]


def test_table_tells_trials_from_the_published_row(tmp_path):
    """Neither replaces the other, and one alone has the published figure beside it."""
    finished(tmp_path / "0", Run(PKKD, 0, 2, 256), [0.9])
    finished(tmp_path / "1", Run(PKKD, 0, 2, 256, ("--limit_train=100",)), [0.2])
    results = tmp_path / "results"
    assert len(results_table.read(results)) == 2 == len(list((results / "curves").iterdir()))
    table = results_table.table(results_table.read(results))
    assert "| pkkd | 2, 256 | 1 | 90.00 | 90.00 |  | 92.96 |" in table
    assert "| pkkd --limit_train=100 | 2, 256 | 1 | 20.00 | 20.00 |  |  |" in table
    assert len(list((results / "filters").iterdir())) == 1
    assert results_table.curves(results) == ["cifar10_resnet20_2_epochs_batch_256.png"]


def finished(folder, run, accuracies, teacher=None):
    """What a run leaves, as far as the table reads it; of a teacher its last accuracy."""
    folder.mkdir(parents=True)
    report = {
        "accuracies": {"student": {"final": accuracies[-1], "best": max(accuracies)}},
        "environment": {"devices": ["CPU:0"], "cpu": f"processor {run.seed}", "git_commit": "abc"},
        "times": {"total_seconds": 1800},
    }
    report["accuracies"]["student"]["best_epoch"] = 1
    if teacher is not None:
        report["accuracies"]["teacher"] = {"final": teacher, "best": 0.99, "best_epoch": 1}
    report["environment"] |= {"versions": {"tensorflow": "2.21.0"}, "date": "2026-01-02T03:04"}
    (folder / "report.json").write_text(json.dumps(report))
    history = [f"{epoch},{value}" for epoch, value in enumerate(accuracies, 1)]
    (folder / "filters.png").write_bytes(b"a picture")
    (folder / "history.csv").write_text("\n".join(["epoch,val_accuracy", *history]) + "\n")
    results_table.record(run, folder, folder.parent / "results")


def test_table_and_curves(tmp_path):
    runs = (0, [0.3, 0.1], None), (1, [0.93, 0.92], 0.95), (0, [0.92, 0.91], None)
    for number, (seed, *accuracies) in enumerate(runs):
        finished(tmp_path / str(number), Run(PKKD, seed, 2, 256), *accuracies)
    results = tmp_path / "results"
    assert [r["seed"] for r in results_table.read(results)] == ["0", "1"]  # the first was replaced
    line = results_table.table(results_table.read(results)).splitlines()[-1]
    expected = "| cifar10 | resnet20 | pkkd | 2, 256 | 2 | 91.50 ± 0.71 | 92.50 ± 0.71 | 95.00 |"
    assert line == f"{expected} 92.96 | 0.5, processor 0 / processor 1 |"
    assert results_table.curves(results) == ["cifar10_resnet20_2_epochs_batch_256.png"]
    assert (results / "cifar10_resnet20_2_epochs_batch_256.png").stat().st_size > 10_000
    name = "cifar10_resnet20_pkkd_2_epochs_batch_256_seed_0"
    assert [file.name for file in (results / "filters").iterdir()] == [f"{name}.png"]
    shown = f"\n![Filters of {name}: Laplace and Gaussian fitted.](filters/{name}.png)\n"
    assert results_table.filters(results) == shown
    (results / "curves" / f"{name}.csv").unlink()
    with pytest.raises(SystemExit, match=f"Received: no .*{name}.csv"):
        results_table.curves(results)


def test_runs_of_an_older_table_are_kept(tmp_path):
    results_table.write(tmp_path, [{"run": "old", "seed": 0}, {"run": "new", "flags": "--eta=1"}])
    old, new = results_table.read(tmp_path)
    assert old == {"run": "old", "seed": "0", "flags": ""} and new["flags"] == "--eta=1"


def queue(folder, names, **given):
    """A queue of the runs that these names of rows stand for."""
    options = {"output": str(folder / "runs"), "results": str(folder / "results")}
    options |= {"data_dir": "data", "parallel": 1, "minutes": None, **given}
    return Queue([Run(row, 0, 2, 256) for row in rows.chosen("cifar10", names)], options)


class Process:
    """Stands for a training that goes on."""

    def __init__(self, command, env, **kwargs):
        self.env = env


@pytest.mark.parametrize(
    ("parallel", "gpus", "expected"),
    [
        (3, ["0", "5"], ["0", "5", "0"]),
        (2, ["0", "5", "6"], ["0", "5"]),
        (3, ["0"], [None] * 3),
        (3, [], [None] * 3),
        (1, ["0", "5"], [None]),
    ],
)
def test_of_several_gpus_each_run_at_once_has_one(tmp_path, monkeypatch, parallel, gpus, expected):
    """The one that fewest have; alone, a run has all of them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "Popen", Process)
    runs = queue(tmp_path, ["resnet20/cnn", "resnet20/plain", "resnet20/kd"], parallel=parallel)
    runs.gpus = gpus
    while len(runs.active) < parallel:
        runs._start(runs.waiting.pop(0))
    found = [process.env.get("CUDA_VISIBLE_DEVICES") for process in runs.active.values()]
    assert found == expected


def test_a_gpu_is_free_again_after_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Process)
    runs = queue(tmp_path, ["resnet20/cnn", "resnet20/plain", "resnet20/kd"], parallel=2)
    runs.gpus = ["0", "1"]
    first, second, third = runs.waiting
    runs._start(first)
    runs._start(second)
    del runs.active[second]
    runs._start(third)
    assert [runs.active[run].env["CUDA_VISIBLE_DEVICES"] for run in (first, third)] == ["0", "1"]


def test_a_run_whose_folder_is_gone_is_not_trained_again(tmp_path):
    """Its teacher is, for another pupil: that needs its file. So is one with another flag."""
    teacher, pupil = rows.chosen("cifar10", ["resnet20/kd/fixed_teacher"])
    names = [teacher.name, pupil.name]
    assert [run.row for run in queue(tmp_path, names).waiting] == [teacher, pupil]
    for row in (teacher, pupil):
        finished(tmp_path / row.method, Run(row, 0, 2, 256), [0.9])
    assert queue(tmp_path, names).waiting == []
    assert queue(tmp_path, names, results=str(tmp_path / "others")).waiting != []
    results_table.write(tmp_path / "results", results_table.read(tmp_path / "results")[:1])
    assert [run.row for run in queue(tmp_path, names).waiting] == [teacher, pupil]
    other = Run(teacher, 0, 2, 256, ("--limit_train=100",))
    assert Queue([other], queue(tmp_path, names).options).waiting == [other]


def test_a_run_that_was_cut_off_goes_on_though_a_row_is_there(tmp_path):
    finished(tmp_path / "0", run := Run(PKKD, 0, 2, 256), [0.9])
    run.folder({"output": tmp_path / "runs"}).mkdir(parents=True)
    assert queue(tmp_path, ["resnet20/pkkd"]).waiting == [run]


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_last_words(tmp_path):
    process = start(tmp_path, tmp_path / "nothing")
    _, text = process.communicate()
    assert process.returncode == 1
    assert re.search(rf"Every run must end well. Received: {NAME} ended with 1: error: ", text)


@pytest.mark.long
def test_a_fixed_teacher_teaches_and_none_is_missed(tmp_path, images):
    """Both at once are allowed; the pupil waits for its teacher, and does not start without."""
    options = "--parallel=2", "--flag=--monitor_every=0", "--batch_size=80"
    process = start(tmp_path, images, *options, row="resnet20/kd/fixed_teacher")
    _, text = process.communicate()
    assert process.returncode == 0, text
    teacher, pupil = results_table.read(tmp_path / "results")
    assert (teacher["method"], pupil["choice"]) == ("cnn", "fixed_teacher")
    assert pupil["teacher_final"] == teacher["student_final"]
    (tmp_path / "empty").mkdir()
    process = start(tmp_path / "empty", tmp_path, *options, row="resnet20/kd/fixed_teacher")
    _, text = process.communicate()
    assert process.returncode == 1
    assert "_kd_fixed_teacher_1_epochs_batch_80_monitor_every_0_seed_0 has no teacher" in text


@pytest.mark.slow
def test_cut_off_and_finished(tmp_path, images):
    process = start(tmp_path, images, "--flag=--monitor_every=0")
    name = NAME.replace("_seed", "_monitor_every_0_seed")
    log, deadline = tmp_path / "runs" / f"{name}.log", time.monotonic() + 200
    while not (log.exists() and "output:" in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(6)  # somewhere in the training, whose state is saved then; or just before it
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate()
    assert process.returncode == 143 and "the same command goes on with" in text
    assert not (tmp_path / "results").exists()
    process = start(tmp_path, images, "--flag=--monitor_every=0")
    _, text = process.communicate()
    assert process.returncode == 0, text
    assert [row["run"] for row in results_table.read(tmp_path / "results")] == [name]
    assert (tmp_path / "results" / "curves" / f"{name}.csv").is_file()
    written = os.path.getmtime(tmp_path / "runs" / name / "report.json")
    assert start(tmp_path, images, "--flag=--monitor_every=0").wait() == 0
    assert os.path.getmtime(tmp_path / "runs" / name / "report.json") == written
