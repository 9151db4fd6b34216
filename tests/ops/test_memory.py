"""The response stays within a small multiple of the convolution's peak memory."""

import os
import pathlib
import subprocess
import sys

import pytest

PROBE = pathlib.Path(__file__).with_name("memory_probe.py")


# Untiled, the first one's broadcast alone would take 2.4 GB: 70 times the convolution's peak.
@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(256, 32, 16, 16), (32, 56, 64, 64)], ids=["resnet20", "resnet50"]
)
def test_peak_is_at_most_four_times_the_convolutions(path, shape):
    """A convolution's own peak is at least its results Y and dX, of equal size here."""
    program = subprocess.run(
        [sys.executable, PROBE, path, *map(str, shape)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROBE.parents[2])},
    )
    assert program.returncode == 0, program.stderr
    batch, size, _, outputs = shape
    convolution = 2 * 4 * batch * size**2 * outputs
    # The lower bound: a probe that sees less than the results measures nothing.
    assert 0.9 * convolution < int(program.stdout) < 4 * convolution
