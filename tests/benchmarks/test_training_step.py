"""The benchmark of a training step: its table, and one real run of it."""

import json

import pytest

from benchmarks import training_step

MACHINE = {
    "device": "a processor",
    "threads": 2,
    "clock": "wall time",
    "kernels": "avx2",
    "tensorflow": "2.21.0",
    "date": "2026-01-01",
}


def test_table_states_milliseconds_rate_memory_and_ratios():
    seconds = {training_step.TWIN: 0.5, "student": 1.0}
    peaks = {training_step.TWIN: [2**28, 2**27], "student": [2**28, 3 * 2**27]}
    text = training_step.table(MACHINE, seconds, peaks, "resnet20", 128)
    assert "a processor, 2 threads" in text and "batch 128" in text
    assert "| convolutional twin | 500 | 256 | 1.00 | 256 | 1.00 |" in text
    assert "| student | 1000 | 128 | 2.00 | 384 | 1.50 |" in text


@pytest.mark.long
def test_command_measures_every_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training_step", "--batch=4", f"--output={tmp_path}"])
    training_step.main()
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert list(record["seconds"]) == list(record["bytes"]) == list(training_step.STEPS)
    assert all(s > 0 for s in record["seconds"].values())
    assert all(len(b) == 2 and min(b) > 2**20 for b in record["bytes"].values())
    assert (tmp_path / "cpu.md").read_text() in capsys.readouterr().out
