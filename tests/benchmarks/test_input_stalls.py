"""The stall profile: its arithmetic on inputs of known speed, its table, and a short real run."""

import json
import time

import pytest

from benchmarks import input_pipeline, input_stalls


class Source:
    """Batches that take `seconds` each, made when they are asked for."""

    def __init__(self, seconds):
        self.seconds = seconds

    def train(self, batch, epochs):
        for _ in range(epochs):
            time.sleep(self.seconds)
            yield [0] * batch, [1] * batch


def test_waiting_is_the_time_that_the_input_takes():
    taken = []
    step = input_stalls.device(0.03)
    measured = input_stalls.profile(Source(0.01), 4, lambda *b: taken.append(b) or step(*b), 3, 20)
    assert len(taken) == 23 and taken[0] == ([0] * 4, [1] * 4)
    # Sleeps only last longer than asked for, so a busy machine can lengthen either part.
    assert 0.01 <= measured["p50"] <= measured["p95"] <= measured["max"]
    assert measured["rate"] <= 4 / 0.04
    assert measured["share"] * 20 * 4 / measured["rate"] >= 20 * 0.01
    assert measured["share"] == pytest.approx(0.25, abs=0.15)
    assert measured["others"] >= 0


def test_table_states_what_a_device_asks_for_and_gets():
    row = {"p50": 0.0004, "p95": 0.002, "max": 0.0123, "others": 0.24}
    record = {
        "machine": {"device": "a processor", "threads": 2, "tensorflow": "2.21.0", "date": "d"},
        "kilobytes": 99.4,
        **{"batch": 32, "image_size": 224, "steps": 100, "warmup": 50},
        "rows": [
            {"source": "folders", "consumer": "none", "step": 0.0, "rate": 640, "share": 1, **row},
            {"source": "folders", "consumer": "device", "step": 0.1, "rate": 300, **row}
            | {"share": 0.0125},
        ],
    }
    text = input_stalls.table(record)
    assert "Batches of 32, 224 pixels, 99 KB a JPEG; 100 steps after 50." in text
    assert "| folders | none | 0 | all | 640 | 100.0 | 0.4 | 2.0 | 12.3 | 0.2 |" in text
    assert "| folders | device | 100 | 320 | 300 | 1.2 | 0.4 | 2.0 | 12.3 | 0.2 |" in text


def run(folder, monkeypatch, *flags):
    """The rows that the command writes, of 12 photos."""
    input_pipeline.write_photos(folder / "photos", count=12)
    command = ["input_stalls", "--batch=2", "--image_size=32", "--warmup=1", *flags]
    command += [f"--output={folder}", f"--data_dir={folder / 'photos'}"]
    monkeypatch.setattr("sys.argv", command)
    input_stalls.main()
    rows = json.loads((folder / "stalls.json").read_text())["rows"]
    assert all(0 <= row["share"] <= 1 and row["p50"] <= row["max"] for row in rows)
    return rows


@pytest.mark.slow
def test_command_profiles_devices(tmp_path, monkeypatch, capsys):
    flags = ["--sources", "array_record, JPEG", "--loads", "0.5", "--processor_steps=0"]
    alone, device = run(tmp_path, monkeypatch, "--steps=3", *flags)
    assert (alone["consumer"], device["consumer"]) == ("none", "device")
    assert device["step"] == pytest.approx(2 / alone["rate"] / 0.5)
    assert (tmp_path / "stalls.md").read_text() in capsys.readouterr().out


@pytest.mark.long
def test_command_profiles_training_on_the_processor(tmp_path, monkeypatch):
    flags = ["--sources", "TFRecord, JPEG", "--step_ms", "10", "--processor_steps=1"]
    _, device, processor = run(tmp_path, monkeypatch, "--steps=1", *flags)
    assert device["step"] == 0.01
    assert processor["consumer"] == "processor, ResNet-18" and processor["step"] > 0
