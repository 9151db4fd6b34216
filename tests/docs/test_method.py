"""The tables of the method: as the script prints them, and every function and test is there."""

import pydoc
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs/method.py"))


@pytest.mark.slow
def test_the_committed_tables_are_those_the_script_prints():
    text = (ROOT / "docs/method.md").read_text()
    assert SCRIPT["equations"]() in text
    assert SCRIPT["figures"]() in text


@pytest.mark.parametrize("equation", SCRIPT["EQUATIONS"], ids=lambda e: e.test)
def test_every_function_and_test_exists(equation):
    assert callable(pydoc.locate(equation.function)), equation.function
    file, name = equation.test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


@pytest.mark.slow
def test_figures_hold_what_was_counted_and_what_was_trained():
    lines = SCRIPT["figures"]().splitlines()
    (counted,) = [x for x in lines if x.startswith("| ResNet-32, ANN: multiplications")]
    assert "0.45 M, 137.79 M | 0.44 M, 137.81 M" in counted
    (energy,) = [x for x in lines if x.startswith("| ResNet-20, ANN: energy")]
    assert "75.4, 2.55 uJ | 74.7, 2.52 uJ" in energy  # as published, and of the own count
    assert sum("CIFAR-10" in line for line in lines) == 10
