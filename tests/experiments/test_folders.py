"""Folders that cannot be made or written are seen before anything is computed."""

import importlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags

from benchmarks import reproduce
from experiments import folders
from experiments.errors import RunError
from export import writing
from export.program import ExportError

NOWHERE = "/proc/pkkd_tf"  # nobody can make it, root neither
RULE = "--output must be a folder that can be made and written. "


@pytest.mark.parametrize("name", ["a/b/c", "there", "there/d"])
def test_nothing_is_left_where_a_folder_could_be_made(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    folders.check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there", tmp_path / "there" / "file"]


def test_a_folder_that_cannot_be_made():
    with pytest.raises(RunError, match=f"{RULE}Received: output={NOWHERE}, where /proc cannot: "):
        folders.check_writable(Path(NOWHERE))


def test_files_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "file/deeper"):
        with pytest.raises(RunError, match=f"where {tmp_path}/file cannot: "):
            folders.check_writable(tmp_path / name)


def test_a_folder_without_room_is_taken_away_again(tmp_path, monkeypatch):
    def full(**arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(RunError, match=f"where {tmp_path} cannot: No space left on device"):
        folders.check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module", ["experiments.soak", "export.demo.__main__", "export.energy.__main__"]
)
def test_programs_look_at_first(module, monkeypatch):
    given = SimpleNamespace(output=NOWHERE, seed=0)  # no other flag is read before
    monkeypatch.setattr(flags, "FLAGS", given)
    with pytest.raises(RunError, match=RULE):
        importlib.import_module(module).main()


@pytest.mark.parametrize("name", ["output", "results"])
def test_the_queue_of_trainings_too(name, tmp_path, monkeypatch):
    given = dict.fromkeys(reproduce.OPTIONS) | {"data_dir": "d", "output": str(tmp_path / "runs")}
    given |= {"results": str(tmp_path / "results"), name: NOWHERE}
    monkeypatch.setattr(flags, "FLAGS", {n: SimpleNamespace(value=v) for n, v in given.items()})
    with pytest.raises(RunError, match=f"--{name} must be a folder that can be made and written"):
        reproduce.main()


def test_files_that_cannot_be_exported(tmp_path):
    with pytest.raises(
        ExportError, match=f"--output must be a path .* output='{NOWHERE}/y.tflite'"
    ):
        writing.check_free(f"{NOWHERE}/y.tflite", False, Path.is_file)
    assert writing.check_free(tmp_path / "a" / "b", False, Path.is_file) == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())
