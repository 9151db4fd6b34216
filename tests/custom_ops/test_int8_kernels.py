"""The kernels on 8-bit integers: every instruction set, bit for bit, over a grid of geometries."""

import functools
import itertools

import numpy as np
import pytest

from tests import numpy_adder_int8
from tests.custom_ops import native
from tests.custom_ops.test_kernels import CHANNELS, DILATIONS, PADDINGS, STRIDES

pytestmark = pytest.mark.slow  # the kernels are compiled for it

MOST_BIAS = 2**61


@pytest.fixture(params=native.instruction_sets())
def instruction_set(request, monkeypatch, kernels):
    monkeypatch.setenv("PKKD_TF_CPU", request.param)
    assert kernels.instruction_set() == request.param
    return request.param


@functools.cache
def case(channels, kernel=(3, 2), image=(6, 5), batch=2, extremes=False, **geometry):
    """Tensors, integers of the epilogue that spread the response, and what the formula makes."""
    inputs, groups, outputs = channels
    rng = np.random.default_rng(hash((channels, kernel, image)) % 2**32)

    def some_bytes(*shape):
        chosen = [-128, 127] if extremes else np.arange(-128, 128)
        return rng.choice(chosen, shape).astype(np.int8)

    x = some_bytes(batch, *image, inputs)
    f = some_bytes(*kernel, inputs // groups, outputs)
    geometry |= {"groups": groups, "zero": int(rng.integers(-128, 128))}
    sums = numpy_adder_int8.distances(x, f, **geometry)
    spread = int(np.ptp(sums)) + 1 if sums.size else 1
    multiplier = rng.integers(-(2**30), 2**30, outputs) // spread
    bias = (rng.integers(-100, 100, outputs) << 22) - multiplier * int(
        sums.mean() if sums.size else 0
    )
    epilogue = {
        "shift": 22,
        "low": int(rng.integers(-128, 0)),
        "high": int(rng.integers(0, 128)),
        "residual": some_bytes(*sums.shape),
        "residual_multiplier": int(rng.integers(-(2**22), 2**22)),
    }
    arguments = (x, f, multiplier.astype(np.int32), bias.astype(np.int64))
    y = numpy_adder_int8.forward(*arguments, **epilogue, **geometry)
    return arguments, geometry | epilogue, y


def check(kernels, one_case, threads=1):
    arguments, options, y = one_case
    np.testing.assert_array_equal(kernels.int8_forward(*arguments, **options, threads=threads), y)


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dilations", DILATIONS)
def test_grid(kernels, instruction_set, strides, padding, dilations):
    seen = set()
    for i, channels in enumerate([*CHANNELS, (32, 32, 32), (24, 1, 44), (16, 2, 50)]):
        one_case = case(channels, strides=strides, padding=padding, dilations=dilations)
        check(kernels, one_case, threads=1 + i % 3)
        seen.update(one_case[2].ravel().tolist())
    assert len(seen) > 100


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_batches(kernels, instruction_set, batch):
    for channels in [(4, 2, 6), (8, 1, 16), (16, 16, 32)]:
        check(kernels, case(channels, batch=batch, strides=(2, 1), padding="SAME"), threads=2)


@pytest.mark.parametrize(
    "kernel,image",
    [((1, 1), (5, 9)), ((1, 1), (1, 1)), ((1, 1), (40, 3)), ((5, 4), (5, 4)), ((2, 7), (9, 8))],
)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (4, 3)])
def test_windows(kernels, instruction_set, kernel, image, strides):
    for channels, padding in itertools.product([(8, 1, 32), (34, 2, 6)], ["SAME", "VALID"]):
        check(kernels, case(channels, kernel, image, strides=strides, padding=padding))


@pytest.mark.parametrize("padding", [((4, 5), (6, 3)), ((0, 9), (7, 0))])
def test_padding_larger_than_the_window(kernels, instruction_set, padding):
    check(kernels, case((3, 1, 20), strides=(2, 3), padding=padding), threads=2)


@pytest.mark.parametrize("channels", [(300, 1, 20), (5, 1, 3), (40, 40, 40)])
def test_largest_differences(kernels, instruction_set, channels):
    """Bytes of -128 and 127 alone, sums of up to 4500 of their differences."""
    check(kernels, case(channels, (5, 3), padding="SAME", extremes=True))


def largest_integers(rng, count):
    """Multipliers and biases at their bounds, and near zero."""
    multiplier = rng.choice([-(2**31), 2**31 - 1, -1, 0, 1, -(2**24)], count)
    bias = rng.choice([-MOST_BIAS, MOST_BIAS, MOST_BIAS - 1, -1, 0, 2**40], count)
    return multiplier.astype(np.int32), bias.astype(np.int64)


@pytest.mark.parametrize("shift", [1, 2, 29, 30, 31, 32, 33, 45, 46])
@pytest.mark.parametrize("low,high", [(-128, 127), (0, 127), (5, 5), (-128, -128)])
def test_largest_integers_of_the_epilogue(kernels, instruction_set, shift, low, high):
    rng = np.random.default_rng(shift)
    for outputs in (1, 7, 16, 37):
        x = rng.choice([-128, 127, 0], (1, 3, 3, 9)).astype(np.int8)
        f = rng.choice([-128, 127, 0], (1, 1, 9, outputs)).astype(np.int8)
        arguments = (x, f, *largest_integers(rng, outputs))
        for multiplier in (None, -(2**31), 2**31 - 1):
            options = {"shift": shift, "low": low, "high": high}
            if multiplier is not None:
                residual = rng.choice([-128, 127, 1], (1, 3, 3, outputs)).astype(np.int8)
                options |= {"residual": residual, "residual_multiplier": multiplier}
            y = numpy_adder_int8.forward(*arguments, **options)
            np.testing.assert_array_equal(kernels.int8_forward(*arguments, **options), y)


def test_the_longest_sum(kernels, instruction_set):
    """2^22 differences of 255, times -2^31: the largest magnitude there is, almost -2^61."""
    x = np.full((1, 1, 1, 2**22), -128, np.int8)
    f = np.full((1, 1, 2**22, 1), 127, np.int8)
    sum_ = 2**22 * 255
    for multiplier, bias in ((-(2**31), -MOST_BIAS), (1, -sum_ + 6), (2**31 - 1, MOST_BIAS)):
        integers = np.array([multiplier], np.int32), np.array([bias], np.int64)
        y = kernels.int8_forward(x, f, *integers)
        assert y.item() == np.clip((sum_ * multiplier + bias) >> 1, -128, 127)


def test_floor_and_not_rounding(kernels, instruction_set):
    x, f = np.zeros((1, 1, 1, 1), np.int8), np.zeros((1, 1, 1, 8), np.int8)
    bias = np.array([-9, -8, -7, -1, 0, 1, 7, 8], np.int64)
    y = kernels.int8_forward(x, f, np.zeros(8, np.int32), bias, shift=3)
    assert y.ravel().tolist() == [-2, -1, -1, -1, 0, 0, 0, 1]


def test_threads_and_strips_change_nothing(kernels, instruction_set):
    arguments, options, _ = case((32, 1, 8), (3, 3), (30, 40), padding="SAME")
    y = kernels.int8_forward(*arguments, **options)
    for threads in (2, 3, 7):
        again = kernels.int8_forward(*arguments, **options, threads=threads)
        np.testing.assert_array_equal(again, y)


def test_packed_filters_keep_their_instruction_set(kernels, monkeypatch):
    """The override may change between packing and use."""
    arguments, options, y = case((16, 1, 16), (3, 3), padding="SAME")

    def change():
        monkeypatch.setenv("PKKD_TF_CPU", "baseline")

    actual = kernels.int8_forward(*arguments, before_forward=change, **options)
    np.testing.assert_array_equal(actual, y)
