"""The response stays within a small multiple of the convolution's peak memory."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

PROBE = pathlib.Path(__file__).with_name("memory_probe.py")


@functools.cache
def peak(path, *shape):
    """Bytes, as memory_probe.py prints them."""
    program = subprocess.run(
        [sys.executable, PROBE, path, *map(str, shape)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROBE.parents[2])},
    )
    assert program.returncode == 0, program.stderr
    return int(program.stdout)


# Untiled, the first one's broadcast alone would take 2.4 GB: 70 times the convolution's peak.
@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(256, 32, 16, 16), (32, 56, 64, 64)], ids=["resnet20", "resnet50"]
)
def test_peak_is_at_most_four_times_the_convolutions(path, shape):
    """By what three times its results Y and dX take, of equal size here, above its peak.

    Buffers of its own, which differ by processor, are a part of that peak.
    """
    batch, size, _, outputs = shape
    results = 2 * 4 * batch * size**2 * outputs
    convolution = peak("convolution", *shape)
    # The lower bound: a probe that sees less than the results measures nothing.
    assert 0.9 * results < convolution
    assert 0.9 * results < peak(path, *shape) < convolution + 3 * results
