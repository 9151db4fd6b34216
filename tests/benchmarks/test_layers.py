import json
import subprocess
import sys
import types

import pytest
import tensorflow as tf

from benchmarks import layers, measure, report

SMALL = layers.Layer("small", 2, 6, 3, 4, 3, 2)


@pytest.mark.parametrize("layer", [SMALL, layers.Layer("small", 1, 5, 2, 3, 1)])
@pytest.mark.parametrize("implementation", layers.IMPLEMENTATIONS)
def test_passes_have_the_shapes_of_their_layer(operations, layer, implementation):
    tensors = [tf.ones(shape) for shape in layer.shapes]
    x_shape, f_shape, y_shape = layer.shapes
    shapes = {n: f(*tensors).shape for n, f in layers.passes(layer, implementation).items()}
    assert shapes == {
        "forward": y_shape,
        "input gradient": x_shape,
        "filter gradient": f_shape,
    }


def test_operations_are_the_terms_of_the_response():
    # 2 images, 3 x 3 responses, 4 outputs, 27 terms each
    assert SMALL.operations == 2 * 3 * 3 * 4 * 27
    assert SMALL.name == "6x6, 3 -> 4, 3x3/2"


def test_the_layers_are_those_of_the_networks():
    for layer in layers.LAYERS:
        assert layer.batch == {"ResNet-20": 128, "ResNet-50": 16}[layer.network]
        assert layer.shapes[2][1] == layer.size // layer.stride


@pytest.mark.slow
def test_files(operations, tmp_path, monkeypatch):
    rows = [
        row | {"bytes": dict.fromkeys(layers.IMPLEMENTATIONS, 2**20)}
        for row in layers.times([SMALL], threads=1)
    ]
    assert [row["pass"] for row in rows] == list(layers.PASSES)
    assert all(0 < s < 1 for row in rows for s in row["seconds"].values())
    machine = measure.machine(1) | {"kernels": "baseline"}
    program = types.SimpleNamespace(__spec__=types.SimpleNamespace(name="benchmarks.layers"))
    monkeypatch.setitem(sys.modules, "__main__", program)
    monkeypatch.setattr("sys.argv", ["layers.py", "--output", "a folder"])
    report.write(tmp_path, "cpu", machine, rows, layers.IMPLEMENTATIONS, layers.PASSES)
    assert json.loads((tmp_path / "cpu.json").read_text())["rows"] == rows
    text = (tmp_path / "cpu.md").read_text()
    assert "1 thread, processor time, baseline kernels" in text
    assert "| small, batch 2: 6x6, 3 -> 4, 3x3/2 | forward | " in text
    origin = json.loads((tmp_path / "cpu.json").read_text())
    assert origin["command"] == "python -m benchmarks.layers --output 'a folder'"
    assert f"`{origin['command']}`, commit {origin['commit']}." in text
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_command(operations, tmp_path):
    arguments = ["--threads", "1", "--images", "0.05", "--network", "ResNet-20"]
    command = [sys.executable, "-m", "benchmarks.layers", *arguments, "--output", str(tmp_path)]
    subprocess.run(command, check=True)
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    first = rows[0]
    assert len(rows) == 18 and first["batch"] == 6
    # The result alone is 384 KiB.
    assert all(2**18 < b < 2**26 for b in first["bytes"].values())
