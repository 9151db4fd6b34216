"""The program that kills a run again and again: it sees a difference, and a few of its cycles."""

import subprocess
import sys

import keras
import pytest

from experiments import soak
from experiments.errors import RunError


def save(folder, value):
    folder.mkdir()
    for name in ("student", "teacher"):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.set_weights([w * 0 + value for w in model.get_weights()])
        model.save(folder / f"{name}.keras")
    return folder


def test_a_difference_in_one_bit_is_seen(tmp_path):
    whole = save(tmp_path / "whole", 1.0)
    soak.compare(save(tmp_path / "same", 1.0), whole)
    with pytest.raises(RunError, match="must end as the run left alone. Received: 2 weights"):
        soak.compare(save(tmp_path / "other", 1.0000001), whole)


@pytest.mark.long
def test_a_run_killed_three_times_ends_as_the_run_left_alone(tmp_path):
    command = [sys.executable, "-m", "experiments.soak", f"--output={tmp_path / 'soak'}"]
    command += ["--cycles=3", "--epochs=12"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "3 kills" in result.stdout and "the same weights bit for bit" in result.stdout
