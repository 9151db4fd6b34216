"""The cost on paper: the committed table is the script's, and its arithmetic by hand."""

import math
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "scaling.py"))
NETWORK = SCRIPT["Network"]((2e9, 1e9), 1e7, 25_000_000, 3e9, 20_000_000)


def test_the_committed_table_is_the_one_the_script_prints():
    network = SCRIPT["count"]()
    text = (DOCS / "scaling.md").read_text()
    assert SCRIPT["table"](network, SCRIPT["parse"]([])) in text
    # ResNet-50 at 224 pixels as published: 4.1 G multiply-adds, 25.6 M parameters.
    assert sum(network.operations) == pytest.approx(4.09e9, rel=0.01)
    assert network.parameters == 25_559_032


def test_parts_by_hand():
    options = SCRIPT["parse"](["--conv=fp32", "--memory=2", "--passes=5"])
    parts = SCRIPT["parts"](NETWORK, options)
    assert parts["student, forward"] == pytest.approx(2e9 / 12.15e12 + 1e9 / 11.15e12)
    assert parts["student, input gradient"] == pytest.approx(2e9 / 9.8e12 + 1e9 / 9.4e12)
    convolution, gradient = 2e9 / 23.2e12 + 1e9 / 10e12, 2e9 / 30e12 + 1e9 / 12.5e12
    assert parts["teacher"] == pytest.approx(2 * convolution + gradient)
    assert parts["feature loss's convolutions"] == pytest.approx(2 * 3e9 / 1e13 + 3e9 / 12.5e12)
    assert parts["normalization and the like, both"] == pytest.approx(2 * 1e7 * 4 * 5 / 2e12)


def test_steps_by_hand():
    options = SCRIPT["parse"](["--launches=50", "--inside=100", "--between=10", "--node=4"])
    image = sum(SCRIPT["parts"](NETWORK, options).values())
    one = SCRIPT["step"](NETWORK, 1, 256, options)
    assert one["reduce"] == 0 and one["compute"] == pytest.approx(256 * image)
    assert one["hours"] == pytest.approx(150 * 1_281_167 * image / 3600)
    four, eight = (SCRIPT["step"](NETWORK, n, 1, options) for n in (4, 8))
    assert four["compute"] == pytest.approx(0.050)
    assert four["reduce"] == pytest.approx(1.5 * 4 * 70e6 / 100e9)
    assert eight["reduce"] == pytest.approx(1.75 * 4 * 70e6 / 10e9)
    assert math.isclose(eight["rate"], 8 / (0.050 + eight["reduce"]))
