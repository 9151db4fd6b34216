import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.image import imread

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_committed_figure_is_the_one_the_script_draws(tmp_path):
    path = tmp_path / "idea.png"
    subprocess.run([sys.executable, str(DOCS / "idea.py"), str(path)], check=True)
    drawn, committed = imread(path), imread(DOCS / "idea.png")
    assert drawn.shape == committed.shape
    # Another release of the font renderer may move an edge, not a box.
    assert np.mean(np.abs(drawn - committed)) < 0.01
    assert (DOCS / "idea.png").stat().st_size < 150_000


def test_its_numbers_are_those_of_the_formulas():
    idea = runpy.run_path(str(DOCS / "idea.py"))
    window, filters = idea["X"], idea["F"]
    convolution, adder = idea["CONVOLUTION"], idea["ADDER"]
    assert convolution.sign * convolution.taps.sum() == np.vdot(window, filters)
    assert adder.sign * adder.taps.sum() == -np.abs(window - filters).sum()
    assert (convolution.multiplications, convolution.additions) == (9, 9)
    assert (adder.multiplications, adder.additions) == (0, 18)
