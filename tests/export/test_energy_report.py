"""What the energy program prints and writes, and how it measures."""

import json
import pathlib
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from export.energy import HOROWITZ, estimate, keras_records, measure, picture, table
from export.program import ExportError, load_network, run
from pkkd_tf import models

ROOT = pathlib.Path(__file__).parents[2]
FLAGGED = {"model": "student.keras", "compare": "teacher.keras", "output": "out"}


@pytest.fixture(scope="module")
def networks():
    records = {
        name: keras_records(models.build("digits_resnet", kind))
        for name, kind in (("CNN", "convolution"), ("ANN", "adder"))
    }
    return {name: [estimate(r, bits) for bits in (32, 8)] for name, r in records.items()}


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_table(networks):
    text = table.text(networks, HOROWITZ)
    blocks = text.split("\n\n")
    assert blocks[0].splitlines()[:4] == [
        "Constants, pJ: M. Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm",
        "  fp32: multiplication 3.7, addition 0.9",
        "  int8: multiplication 0.2, addition 0.03",
        "  access of 64 bits: 8 KB cache 10, 32 KB cache 20, 1 MB cache 100, DRAM 1300-2600",
    ]
    assert "perfect reuse: a lower bound" in blocks[0]
    titles = [block.splitlines()[0] for block in blocks[1:5]]
    assert titles == [f"{n}, {f}, one image" for n in ("CNN", "ANN") for f in ("fp32", "int8")]
    for block, energy in zip(blocks[1:5], [*networks["CNN"], *networks["ANN"]]):
        check_layers(block.splitlines(), energy)
    check_totals(blocks[5].splitlines(), networks)
    assert blocks[6].startswith("compute only: operations times their energy, what papers")


def check_layers(lines, energy):
    rows = {row[0]: row for row in map(cells, lines[3:])}
    for layer in [*energy.layers, energy.total]:
        moved = layer.filters + layer.activations
        assert (layer.record.name in rows) == (moved > 0)
        if moved:
            counts = (layer.record.multiplications, layer.record.additions, layer.filters)
            counts += (layer.activations, *layer.by_level.values())
            assert rows[layer.record.name][1:-2] == [f"{n:,}" for n in counts]
            energies = [f"{layer.compute:.3f}", f"{layer.with_memory:.3f}"]
            assert rows[layer.record.name][-2:] == energies


def check_totals(lines, networks):
    assert cells(lines[0])[-3:] == ["compute only, uJ", "with memory, uJ", "upper end, uJ"]
    rows = [cells(line) for line in lines[2:]]
    assert [row[:2] for row in rows] == [
        [name, format] for format in ("fp32", "int8") for name in ("CNN", "ANN", "ratio")
    ]
    for index in range(2):
        both = [energies(networks[name][index].total) for name in ("CNN", "ANN")]
        for row, expected in zip(rows[3 * index :], both):
            assert row[-3:] == [f"{microjoules:.2f}" for microjoules in expected]
        assert rows[3 * index + 2][2:] == [f"{cnn / ann:.2f} x" for cnn, ann in zip(*both)]


def energies(total):
    """Of computation alone, with memory, and with the upper end of its ranges."""
    return total.compute, total.with_memory, total.compute + total.memory_upper


def test_picture_holds_both_networks(networks, tmp_path):
    pixels = {}
    for name, content in (("both", networks), ("one", {"ANN": networks["ANN"]})):
        (tmp_path / f"{name}.png").write_bytes(picture.bars(content))
        image = (imread(tmp_path / f"{name}.png")[..., :3] * 255).round().astype(int)
        for color in picture.COLORS:
            rgb = [round(255 * part) for part in matplotlib.colors.to_rgb(color)]
            pixels[name, color] = np.all(image == rgb, axis=-1).sum()
    convolution, adder = picture.COLORS
    assert pixels["one", convolution] == 0 and pixels["one", adder] > 1000
    # Solid bars: two formats, compute-only and with-memory.
    assert pixels["both", convolution] > 1.5 * pixels["both", adder] > 1500


@pytest.mark.slow
def test_the_program(tmp_path):
    for name, kind in (("student", "adder"), ("teacher", "convolution")):
        models.build("digits_resnet", kind).save(tmp_path / f"{name}.keras")
    files = [f"--{flag}={tmp_path / name}" for flag, name in FLAGGED.items()]
    done = subprocess.run(
        [sys.executable, "-m", "export.energy", *files, "--bits=8", "--measure"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["energy.json", "energy.png"]
    document = json.loads((tmp_path / "out" / "energy.json").read_text())
    assert [n["name"] for n in document["networks"]] == ["CNN teacher", "ANN student"]
    assert [list(n["formats"]) for n in document["networks"]] == [["int8"]] * 2
    ann = document["networks"][1]["formats"]["int8"]
    assert (ann["total"]["multiplications"], ann["total"]["additions"]) == (4_928, 381_760)
    for key in ("energy_compute_only", "energy_memory", "filter_bytes", "activation_bytes"):
        assert sum(layer[key] for layer in ann["layers"]) == pytest.approx(ann["total"][key])
    assert f"{ann['total']['energy_with_memory']:.2f}" in done.stdout
    # Joules where this machine shows them, else the reason, in both places.
    measured = document["measured"]
    if "reason" in measured:
        assert f"not measured: {measured['reason']}" in done.stdout
    else:
        assert all(measured[name]["joules"] > 0 for name in ("CNN teacher", "ANN student"))


def test_errors_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["energy"])
    with pytest.raises(SystemExit) as ended:
        run(lambda: load_network("none.keras", "--compare"))
    assert ended.value.code == 1
    message = "error: --compare must be an existing .keras file. Received: compare=none.keras\n"
    assert capsys.readouterr() == ("", message)


def counters(root, **packages):
    """Files as Linux has them: two packages, and a part of the first that must not count twice."""
    for name, microjoules in packages.items():
        folder = root / name.replace("_", ":")
        folder.mkdir(exist_ok=True)
        (folder / "max_energy_range_uj").write_text("999999\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")


def test_counters_go_round(tmp_path):
    root = tmp_path
    counters(root, **{"intel-rapl_0": 900_000, "intel-rapl_1": 5, "intel-rapl_0_0": 7})
    read = measure.EnergyCounters(root)
    before = read.read()
    counters(root, **{"intel-rapl_0": 100_000, "intel-rapl_1": 300_005, "intel-rapl_0_0": 9})
    assert read.joules_since(before) == pytest.approx(0.2 + 0.3)


def test_joules_are_shared_among_the_images(tmp_path):
    """A counter that rises by 20 microjoules an inference and not in between."""
    calls = []

    def inference():
        calls.append(1)
        counters(tmp_path, **{"intel-rapl_0": 20 * len(calls)})

    counters(tmp_path, **{"intel-rapl_0": 0})
    result = measure.measure(inference, measure.EnergyCounters(tmp_path), seconds=0.1)
    assert result.images == len(calls) - 1 > 0
    assert result.joules_per_image == pytest.approx(2e-5)
    assert result.idle_watts == 0 and result.seconds >= 0.1
    idle = measure.Measurement(images=10, seconds=2.0, joules=5.0, idle_watts=1.5)
    assert idle.joules_per_image_above_idle == pytest.approx((5.0 - 3.0) / 10)


def test_machines_without_readable_counters(tmp_path):
    message = r"only where Linux shows .* Received: no intel-rapl:\[0-9\]\* in "
    with pytest.raises(ExportError, match=message):
        measure.EnergyCounters(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir(parents=True)
    (tmp_path / "intel-rapl:0" / "max_energy_range_uj").write_text("1000\n")
    with pytest.raises(ExportError, match="must be readable, on most systems by root only. Rec"):
        measure.EnergyCounters(tmp_path)


def test_an_inference_runs():
    model = models.build("digits_resnet")
    (logits,) = measure.inference(model)()
    assert logits.shape == (1, 10)
