import json
import math
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from experiments import atomic, report, results
from experiments.errors import RunError
from experiments.history import Table
from experiments.report import machine, tables
from experiments.report.plain import plain, relative
from export import writing
from export.program import ExportError

FACTS = {
    "program": "digits",
    "command": "python -m experiments.digits --epochs=40",
    "flags": {"epochs": 40, "widths": (8, 16), "crop": "a|b"},
    "model": "digits_resnet",
    "method": "kd",
    "dataset": {"name": "digits", "num_train": 1437, "image_shape": (8, 8, 1)},
    "accuracies": {
        "student": {"final": np.float32(0.9754), "best": 0.98, "best_epoch": np.int64(33)},
        "teacher": {"final": 0.9917},
    },
    "counts": {"student": {"parameters": 268_346, "additions": 137_790_000}},
    "times": {"total_seconds": 123.4, "images_per_second": 512.34},
    "filters": {"student": {"loc": 0.25, "better": "laplace", "layers": {"conv": {"loc": 1.0}}}},
    "notes": ["A run of a few epochs."],
    "runs": [{"name": "PKKD ANN", "accuracy": 0.975, "seconds": 75}],
    "later": {"loss": float("nan"), "array": np.arange(3)},
}


def written(folder: Path) -> tuple[dict, str]:
    text = (folder / "report.json").read_text(encoding="utf-8")
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return strict, (folder / "report.md").read_text(encoding="utf-8")


def test_both_files_hold_the_facts(tmp_path):
    report.write(tmp_path / "new" / "folder", FACTS)
    facts, text = written(tmp_path / "new" / "folder")
    assert facts["accuracies"]["student"]["best_epoch"] == 33
    assert facts["accuracies"]["student"]["final"] == pytest.approx(0.9754)
    assert facts["later"] == {"loss": "NaN", "array": [0, 1, 2]}
    assert facts["flags"]["widths"] == [8, 16]
    assert text.startswith("# digits, digits_resnet, kd\n")
    for line in (
        "- A run of a few epochs.",
        "python -m experiments.digits --epochs=40",
        "| student | 97.54 % | 98.00 % | 33 |",
        "| teacher | 99.17 % | - | - |",
        "| student | 0.27 M (268,346) | 137.79 M (137,790,000) |",
        "| training, total | 2 min 03 s |",
        "| images a second | 512.3 |",
        "| image (height, width, channels) | 8 x 8 x 1 |",
        "| PKKD ANN | 97.50 % | 1 min 15 s |",
        "| Laplace, location | 0.25 |",
        "| `--crop` | `a\\|b` |",
    ):
        assert line in text.splitlines()


def test_json_is_sorted_and_reads_back_the_same_whatever_the_order(tmp_path):
    report.write(tmp_path, FACTS)
    first = (tmp_path / "report.json").read_text(encoding="utf-8")
    report.write(tmp_path, dict(reversed(FACTS.items())))
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == first
    assert first == json.dumps(json.loads(first), sort_keys=True, indent=2) + "\n"


@pytest.mark.parametrize("absent", sorted(FACTS))
def test_any_key_may_be_absent_or_none(tmp_path, absent):
    report.write(tmp_path, {key: value for key, value in FACTS.items() if key != absent})
    assert absent not in written(tmp_path)[0]
    report.write(tmp_path, {**FACTS, absent: None})
    assert written(tmp_path)[0][absent] is None


def test_an_empty_report_is_a_report(tmp_path):
    report.write(tmp_path, {})
    assert written(tmp_path) == ({}, "# Report\n")


def test_pictures_and_files_are_linked_from_the_folder(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "my run"
    run.mkdir(parents=True)
    for name in ("curves.png", "student.keras", "learning curves.png"):
        (run / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    pictures = [run / "learning curves.png", "curves.png"]
    report.write(run, {"pictures": pictures, "files": [Path("runs/my run/student.keras")]})
    facts, text = written(run)
    assert facts["pictures"] == ["learning curves.png", "curves.png"]
    assert facts["files"] == ["student.keras"]
    assert "![Learning curves](learning%20curves.png)" in text
    assert "![Curves](curves.png)" in text
    assert "- [student.keras](student.keras)" in text
    assert str(tmp_path) not in text + json.dumps(facts)


def test_a_file_beside_the_folder_is_linked_upwards(tmp_path):
    assert relative(tmp_path / "teacher.keras", tmp_path / "run") == "../teacher.keras"
    assert relative("not yet.png", tmp_path) == "not yet.png"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (object, TypeError, r"report\['flags'\]\['x'\]=<class 'object'> of type type"),
        (np.array([None]), TypeError, r"report\['flags'\]\['x'\]=array\(\[None\]"),
        ({1: 2, "1": 3}, ValueError, r"keys of report\['flags'\]\['x'\]=\[1, '1'\]"),
    ],
)
def test_what_json_cannot_hold_leaves_the_old_report(tmp_path, value, error, text):
    report.write(tmp_path, FACTS)
    before = written(tmp_path)
    with pytest.raises(error, match=text):
        report.write(tmp_path, {"flags": {"x": value}})
    assert written(tmp_path) == before


def test_infinities_keep_their_sign():
    values = [math.inf, -math.inf, np.float32("nan"), 1.5]
    assert plain(values) == ["Infinity", "-Infinity", "NaN", 1.5]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_disk_names_the_file_that_was_asked_for(tmp_path, monkeypatch, failing):
    def full(*arguments):
        raise OSError(28, "No space left on device", "internal.tmp")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError) as caught:
        atomic.write_files(tmp_path, {"a": b"new"})
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path / 'a'}'"
    with pytest.raises(ExportError, match=f"with room for all of it. Received: .*'{tmp_path}/a'"):
        writing.write_files(tmp_path, {"a": b"new"})
    table = Table(tmp_path / "history.csv")
    table.add([{"epoch": 1}])
    with pytest.raises(RunError, match=f"--resume goes on .*Received: .*'{tmp_path}/history.csv'"):
        table.write()
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    table.write()
    assert table.path.exists()


def test_a_disk_that_is_full_while_a_network_is_saved(tmp_path, monkeypatch):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(network, "save", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/student.keras'"):
        results.save_network(network, tmp_path / "student.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_files_and_no_remains(tmp_path, monkeypatch, failing):
    atomic.write_files(tmp_path, {"a": b"old a", "b": b"old b"})

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_files(tmp_path, {"a": b"new a", "b": b"new b"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"old a",
        "b": b"old b",
    }


def test_environment_is_json_and_tells_no_host_name():
    facts = report.environment()
    assert plain(facts) == facts
    assert set(facts["versions"]) == {"python", "tensorflow", "keras", "numpy", "pkkd_tf"}
    assert facts["versions"]["numpy"] == np.__version__
    assert any(device.startswith("CPU:0") for device in facts["devices"])
    assert 1 <= facts["logical_cores"] <= os.cpu_count()
    assert facts["date"].endswith("+00:00")
    assert not {"host", "hostname", "node"} & set(facts)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_the_one_that_holds_the_source(tmp_path, monkeypatch):
    source = tmp_path / "machine.py"
    source.write_text("1\n")
    monkeypatch.setattr(machine, "SOURCE", source)
    assert report.environment()["git_commit"] is None
    git(tmp_path, "init", "-q")
    assert report.environment()["git_commit"] is None
    git(tmp_path, "add", "machine.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    facts = report.environment()
    assert (facts["git_commit"], facts["git_modified"]) == (
        git(tmp_path, "rev-parse", "HEAD"),
        False,
    )
    source.write_text("2\n")
    assert report.environment()["git_modified"] is True


def test_no_git_program_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert report.environment()["git_commit"] is None


def test_the_processor_is_read_or_none(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert machine.cpu_model(str(tmp_path / "cpuinfo")) == "Some CPU @ 2 GHz"
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    assert machine.cpu_model(str(tmp_path / "absent")) is None


def test_generations_of_one_name_are_told_apart(tmp_path):
    fields = ("cpu family\t: 25", "model\t\t: 1", "model name\t: AMD EPYC")
    (tmp_path / "cpuinfo").write_text("\n".join(fields) + "\n\ncpu family\t: 6\nflags\t: a b\n")
    assert machine.cpu_model(str(tmp_path / "cpuinfo")) == "AMD EPYC (family 25, model 1)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25 s"), (59.97, "1 min 00 s"), (725, "12 min 05 s"), (12_000, "3 h 20 min")],
)
def test_durations(value, text):
    assert tables.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(640, "640"), (450_000, "0.45 M (450,000)"), (1.25e9, "1.25 G (1,250,000,000)"), (None, "-")],
)
def test_counts(value, text):
    assert tables.count(value) == text
