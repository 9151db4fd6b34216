"""States of a run on the disk: torn ones, full disks, and what is kept."""

import keras
import numpy as np
import pytest

from experiments.checkpoints import Checkpoints, Position
from experiments.errors import RunError


def tear(path):
    """Cuts a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def small_checkpoints(folder, positions):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(folder, {})
    for position in positions:
        model.set_weights([np.full((2, 1), position[0]), np.full(1, position[1])])
        checkpoints.save(model, Position(*position))
    return model, checkpoints


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": 1}'])
def test_of_a_torn_record_the_one_before_is_used(tmp_path, content):
    model, checkpoints = small_checkpoints(tmp_path, [(1, 0), (2, 0)])
    checkpoints.newest().write_text(content)
    assert checkpoints.restore(model) == Position(1, 0)
    assert model.get_weights()[0][0, 0] == 1


def test_where_all_checkpoints_are_torn_nothing_is_touched(tmp_path):
    model, checkpoints = small_checkpoints(tmp_path, [(1, 0), (2, 0)])
    for path in tmp_path.iterdir():
        tear(path)
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="one checkpoint must hold.*Received: .*00002.*; .*00001"):
        checkpoints.restore(model)
    assert contents == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_what_killed_saves_and_a_future_given_up_left_is_deleted(tmp_path):
    model, checkpoints = small_checkpoints(tmp_path, [(1, 0), (2, 0)])
    tear(tmp_path / "epoch_00002_step_0000000.keras")
    left = "partial_epoch_00002_step_0000003.keras", ".epoch_00002_step_0000003.json.7.tmp"
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    assert checkpoints.restore(model) == Position(1, 0)
    checkpoints.save(model, Position(1, 5))
    names = sorted(path.stem for path in tmp_path.iterdir())
    assert names == [n for s in (0, 5) for n in [f"epoch_00001_step_000000{s}"] * 2]


def test_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path, {"seed": 0})
    checkpoints.save(model, Position(1, 0))

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    with pytest.raises(RunError, match="checkpoints are intact.*No space left"):
        checkpoints.save(model, Position(2, 0))
    assert checkpoints.restore(model) == Position(1, 0)
    assert len(list(tmp_path.iterdir())) == 2


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path, {})
    for epoch in range(1, 5):
        checkpoints.save(model, Position(epoch, 0))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"epoch_0000{e}_step_0000000.{x}" for e in (3, 4) for x in ("json", "keras")]
