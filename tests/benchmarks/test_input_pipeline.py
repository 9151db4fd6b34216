"""The benchmark of the input: its table by hand, and a short real run of it."""

import json

import pytest

from benchmarks import input_pipeline


def test_table_states_cores_and_hosts():
    record = {
        "machine": {
            "device": "a processor",
            "threads": 2,
            "clock": "c",
            "tensorflow": "2.21.0",
            "date": "d",
        },
        "kilobytes": 110.4,
        "batch": 64,
        "images_per_second": 1000.0,
        "cores": 4,
        "rows": [
            {"source": "folders", "augmentation": "standard", "a_core": 100.0},
            {"source": "memory", "augmentation": "standard", "a_core": 250.0},
        ],
    }
    text = input_pipeline.table(record)
    assert "JPEGs: 110 KB on average" in text and "cores for 1000 images/s" in text
    assert "| folders | standard | 100 | 10.0 | 3 |" in text
    assert "| memory | standard | 250 | 4.0 | 1 |" in text


@pytest.mark.long
def test_command_measures_every_source(tmp_path, monkeypatch, capsys):
    input_pipeline.write_photos(tmp_path / "photos", count=12)
    command = ["input_pipeline", "--batch=4", "--seconds=0.05", "--image_size=32"]
    command += [f"--output={tmp_path}", f"--data_dir={tmp_path / 'photos'}"]
    monkeypatch.setattr("sys.argv", command)
    input_pipeline.main()
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert len({(row["source"], row["augmentation"]) for row in record["rows"]}) == 8
    assert all(row["a_core"] > 0 and row["images"] % 4 == 0 for row in record["rows"])
    assert 40 < record["kilobytes"] < 200
    assert (tmp_path / "cpu.md").read_text() in capsys.readouterr().out
