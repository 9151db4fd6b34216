"""The tiled response stays within a small multiple of the convolution's peak memory."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

PROBE = pathlib.Path(__file__).with_name("memory_probe.py")


def peak(kind, shape):
    """Bytes that one forward and backward pass takes on top of its inputs."""
    program = subprocess.run(
        [sys.executable, PROBE, kind, *map(str, shape)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROBE.parents[2])},
    )
    assert program.returncode == 0, program.stderr
    return int(program.stdout)


@functools.cache
def peak_of_convolution(shape):
    bytes_ = peak("convolution", shape)
    batch, size, _, outputs = shape
    assert bytes_ > 1.5 * 4 * batch * size**2 * outputs, "the probe must see at least Y and dX"
    return bytes_


# Untiled, the first one's broadcast alone would take 2.4 GB: 70 times the convolution's peak.
@pytest.mark.parametrize(
    "shape", [(256, 32, 16, 16), (16, 56, 64, 64)], ids=["resnet20", "resnet50"]
)
def test_peak_is_at_most_four_times_the_convolutions(path, shape):
    assert peak(path, shape) < 4 * peak_of_convolution(shape)
