"""Every instruction set against the formulas in float64, over a grid of geometries.

The grid's numbers are multiples of 1/64 below 4: every sum is exact in float32, so results are
compared without a tolerance, and differences of exactly 0 and 1 occur everywhere.
"""

import functools
import itertools

import numpy as np
import pytest

from tests import numpy_adder
from tests.custom_ops import native

pytestmark = pytest.mark.slow  # the kernels are compiled for it

STRIDES = [(1, 1), (2, 2), (3, 1)]
PADDINGS = ["SAME", "VALID", ((1, 0), (2, 1))]
DILATIONS = [(1, 1), (2, 1)]
CHANNELS = [
    (1, 1, 1),
    (3, 1, 5),
    (5, 5, 5),
    (16, 16, 16),
    (3, 3, 12),
    (6, 3, 12),
    (16, 1, 17),
    (33, 1, 16),
    (17, 1, 33),
]


@pytest.fixture(params=native.instruction_sets())
def instruction_set(request, monkeypatch, kernels):
    monkeypatch.setenv("PKKD_TF_CPU", request.param)
    assert kernels.instruction_set() == request.param
    return request.param


def sixtyfourths(rng, *shape):
    return rng.integers(-255, 256, shape) / 64


@functools.cache
def case(strides, padding, dilations, channels, batch=2, kernel=(3, 2), image=(6, 5)):
    """Numbers and what the formulas make of them."""
    inputs, groups, outputs = channels
    rng = np.random.default_rng(hash((strides, dilations, channels)) % 2**32)
    x = sixtyfourths(rng, batch, *image, inputs)
    f = sixtyfourths(rng, *kernel, inputs // groups, outputs)
    y = numpy_adder.forward(x, f, strides, padding, dilations, groups)
    dy = sixtyfourths(rng, *y.shape)
    geometry = (strides, padding, dilations, groups)
    dx = {m: numpy_adder.gradients(x, f, dy, *geometry, m)[0] for m in native.SLOPES}
    return geometry, x, f, dy, y, dx


def cast(arrays, dtype):
    return [np.ascontiguousarray(a.astype(native.TYPES[dtype])) for a in arrays]


def check(kernels, one_case, dtype, threads):
    geometry, x, f, dy, y, dx = one_case
    x, f, dy = cast((x, f, dy), dtype)
    expected = y.astype(np.float32).astype(x.dtype)
    np.testing.assert_array_equal(kernels.forward(x, f, *geometry, threads=threads), expected)
    for mode in native.SLOPES:
        expected = dx[mode].astype(np.float32).astype(x.dtype)
        actual = kernels.input_gradient(x, f, dy, *geometry, mode, threads=threads)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dilations", DILATIONS)
def test_grid(kernels, instruction_set, strides, padding, dilations):
    for channels, dtype in itertools.product(CHANNELS, native.TYPES):
        one_case = case(strides, padding, dilations, channels)
        check(kernels, one_case, dtype, threads=1 + (dtype == "bfloat16"))


@pytest.mark.parametrize("dtype", native.TYPES)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_batches(kernels, instruction_set, batch, dtype):
    one_case = case((2, 1), "SAME", (1, 1), (4, 2, 6), batch=batch)
    check(kernels, one_case, dtype, threads=2)


@pytest.mark.parametrize(
    "kernel,image",
    [((1, 1), (5, 9)), ((1, 1), (1, 1)), ((1, 1), (40, 3)), ((5, 4), (5, 4)), ((2, 7), (9, 8))],
)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (4, 3)])
def test_windows(kernels, instruction_set, kernel, image, strides):
    for channels, padding in itertools.product([(8, 1, 32), (34, 2, 6)], ["SAME", "VALID"]):
        one_case = case(strides, padding, (1, 1), channels, kernel=kernel, image=image)
        check(kernels, one_case, "float32", threads=1)


@pytest.mark.parametrize("padding", [((4, 5), (6, 3)), ((0, 9), (7, 0))])
def test_padding_larger_than_the_window(kernels, instruction_set, padding):
    check(kernels, case((2, 3), padding, (1, 1), (3, 1, 20)), "float32", threads=2)


def normal_case(seed, batch, image, inputs, outputs, offset=0.0):
    rng = np.random.default_rng(seed)
    if offset == "a channel's own":
        offset = rng.normal(size=(inputs, 1)) * 1000
    x = (rng.normal(size=(batch, image, image, inputs)) + np.ravel(offset)).astype(np.float32)
    f = (rng.normal(size=(3, 3, inputs, outputs)) + offset).astype(np.float32)
    dy = rng.normal(size=(batch, image, image, outputs)).astype(np.float32)
    return x, f, dy


@pytest.mark.parametrize("offset", [0.0, 1000.0, -3.0, "a channel's own"])
@pytest.mark.parametrize("inputs", [2, 15, 16, 512])
def test_accuracy(kernels, instruction_set, inputs, offset):
    """Sums of 18 to 4608 terms; the largest error seen was 7e-7 of the response."""
    x, f, dy = normal_case(1, 1, 4, inputs, 24, offset)
    y = numpy_adder.forward(x, f, padding="SAME")
    geometry = ((1, 1), "SAME", (1, 1), 1)
    np.testing.assert_allclose(kernels.forward(x, f, *geometry), y, rtol=1e-6)
    dx, _ = numpy_adder.gradients(x, f, dy, *geometry, "clipped")
    actual = kernels.input_gradient(x, f, dy, *geometry, "clipped")
    np.testing.assert_allclose(actual, dx, atol=2e-6 * np.sqrt(9 * 24), rtol=1e-6)


def test_results_depend_neither_on_threads_nor_on_the_run(kernels, instruction_set):
    x, f, dy = normal_case(2, 5, 9, 19, 21)
    geometry = ((1, 1), "SAME", (1, 1), 1)
    y = kernels.forward(x, f, *geometry)
    dx = kernels.input_gradient(x, f, dy, *geometry, "clipped")
    for threads in (1, 2, 3, 7):
        np.testing.assert_array_equal(kernels.forward(x, f, *geometry, threads=threads), y)
        again = kernels.input_gradient(x, f, dy, *geometry, "clipped", threads=threads)
        np.testing.assert_array_equal(again, dx)


def test_response_is_never_positive_and_zero_at_a_match(kernels, instruction_set):
    _, f, _ = normal_case(3, 1, 3, 30, 1)
    x = f[..., 0][None]
    y = kernels.forward(np.ascontiguousarray(x), f, (1, 1), "VALID", (1, 1), 1)
    assert y.item() == 0 and not np.signbit(y).any()


def case_with_matches():
    """Every other filter is close to the window at its own pixel."""
    x, f, _ = normal_case(5, 1, 6, 16, 16)
    for o in range(0, 16, 2):
        row, column = 1 + o % 4, 1 + o // 4
        window = x[0, row - 1 : row + 2, column - 1 : column + 2]
        f[..., o] = window + 0.01 * f[..., o]
    return x, f


def test_a_filter_close_to_its_window_costs_no_digits(kernels, instruction_set):
    x, f = case_with_matches()
    y = numpy_adder.forward(x, f, padding="SAME")
    assert (y > -3).sum() == 8 and (y < -100).sum() > 500
    # Sums and differences of pairs are rounded beside operands a hundred times their distance.
    rtol = {"avx512": 1e-5}.get(instruction_set, 1e-6)
    actual = kernels.forward(x, f, (1, 1), "SAME", (1, 1), 1)
    np.testing.assert_allclose(actual, y, rtol=rtol)


@pytest.mark.parametrize("inputs", [7, 8])
def test_long_sums_are_added_in_pieces(kernels, instruction_set, inputs):
    """One response of 27,783 equal terms and more, under taps that no run joins."""
    x = np.full((1, 125, 125, inputs), 0.1, np.float32)
    f = np.full((63, 63, inputs, 1), -0.1, np.float32)
    expected = -63 * 63 * inputs * 2 * np.float64(np.float32(0.1))
    y = kernels.forward(x, f, (1, 1), "VALID", (2, 2), 1)
    np.testing.assert_allclose(y, expected, rtol=5e-6)


def test_sums_of_operands_may_overflow(kernels, instruction_set):
    x, f, _ = normal_case(6, 1, 5, 16, 24)
    x, f = (np.float32(1e37) * (1 + np.float32(0.01) * a) for a in (x, f))
    y = numpy_adder.forward(x, f)
    np.testing.assert_allclose(kernels.forward(x, f, (1, 1), "VALID", (1, 1), 1), y, rtol=2e-6)


def test_a_response_does_not_depend_on_its_neighbours(kernels, instruction_set):
    """To the last bit: neither on other pixels nor on other filters, close to x or not."""
    (x, f), geometry = case_with_matches(), ((1, 1), "VALID", (1, 1), 1)
    y = kernels.forward(x, f, *geometry)
    for row, column in np.ndindex(4, 4):
        window = np.ascontiguousarray(x[:, row : row + 3, column : column + 3])
        np.testing.assert_array_equal(
            kernels.forward(window, f, *geometry)[0, 0, 0], y[0, row, column]
        )
    for o in range(16):
        alone = kernels.forward(x, np.ascontiguousarray(f[..., o : o + 1]), *geometry)
        np.testing.assert_array_equal(alone[..., 0], y[..., o])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "f", "dy"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_nan_and_infinity_reach_what_they_touch(kernels, instruction_set, value, where, strides):
    for channels in [(3, 1, 5), (16, 1, 32), (6, 3, 6)]:
        geometry, *arrays, _, _ = case(strides, "SAME", (1, 1), channels)
        x, f, dy = cast(arrays, "float32")
        array = {"x": x, "f": f, "dy": dy}[where]
        array[tuple(size // 2 for size in array.shape)] = value
        with np.errstate(invalid="ignore"):
            y = numpy_adder.forward(x, f, *geometry)
            dx = {m: numpy_adder.gradients(x, f, dy, *geometry, m)[0] for m in native.SLOPES}
        np.testing.assert_allclose(kernels.forward(x, f, *geometry), y, rtol=1e-6)
        for mode in native.SLOPES:
            actual = kernels.input_gradient(x, f, dy, *geometry, mode)
            np.testing.assert_allclose(actual, dx[mode], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_number_of_16_bits(kernels, instruction_set, dtype):
    """A 1x1 window and one filter of zero: Y = -|X|."""
    x = np.arange(65536, dtype=np.uint16).view(native.TYPES[dtype]).reshape(1, 256, 256, 1)
    f = np.zeros((1, 1, 1, 1), x.dtype)
    y = kernels.forward(x, f, (1, 1), "VALID", (1, 1), 1)
    np.testing.assert_array_equal(y.astype(np.float32), -np.abs(x.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_round_to_nearest_even(kernels, instruction_set, dtype):
    """Two channels: Y = -(|X0| + |X1|), whose sum needs more bits than the type has."""
    rng = np.random.default_rng(4)
    scale = 2.0 ** rng.integers(-20, 13, (1, 64, 64, 2))
    x = (rng.normal(size=scale.shape) * scale).astype(native.TYPES[dtype])
    y = kernels.forward(x, np.zeros((1, 1, 2, 1), x.dtype), (1, 1), "VALID", (1, 1), 1)
    with np.errstate(over="ignore"):
        expected = -np.abs(x.astype(np.float32)).sum(-1, keepdims=True).astype(x.dtype)
    np.testing.assert_array_equal(y, expected)


def test_unknown_instruction_set_is_reported(kernels, monkeypatch):
    monkeypatch.setenv("PKKD_TF_CPU", "mmx")
    assert not kernels.functions.pkkd_instruction_set_override_is_valid()
    assert kernels.instruction_set() == native.instruction_sets()[-1]
    monkeypatch.setenv("PKKD_TF_CPU", "baseline")
    assert kernels.functions.pkkd_instruction_set_override_is_valid()
