"""The int8 definition in NumPy against Python's own integers, term by term."""

import itertools

import numpy as np
import pytest

from pkkd_tf.quantization.integer import adder_conv2d_int8


def plain(x, filters, multiplier, bias, stride, pads, dilation, groups, zero, shift, residual=None):
    """The formula, one output at a time, in integers without a limit."""
    (top, bottom), (left, right) = pads
    n, height, width, _ = x.shape
    kh, kw, inputs, outputs = filters.shape
    rows = (height + top + bottom - dilation * (kh - 1) - 1) // stride + 1
    columns = (width + left + right - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, rows, columns, outputs), np.int8)
    for b, p, q, o in np.ndindex(y.shape):
        total = 0
        for i, j, c in np.ndindex(kh, kw, inputs):
            h, w = p * stride - top + i * dilation, q * stride - left + j * dilation
            channel = o // (outputs // groups) * inputs + c
            inside = 0 <= h < height and 0 <= w < width
            value = int(x[b, h, w, channel]) if inside else zero
            total += abs(value - int(filters[i, j, c, o]))
        total = total * int(multiplier[o]) + int(bias[o])
        if residual is not None:
            total += 77 * int(residual[b, p, q, o])
        y[b, p, q, o] = min(max(total >> shift, -100), 90)
    return y


def numbers(shape, random):
    return random.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize(
    "stride,dilation,groups", list(itertools.product((1, 2, 3), (1, 2), (1, 3)))
)
@pytest.mark.parametrize("with_residual", (False, True))
def test_formula(stride, dilation, groups, with_residual):
    random = np.random.default_rng(stride + 10 * dilation + 100 * groups)
    x, filters = numbers((2, 7, 6, 6), random), numbers((3, 2, 6 // groups, 9), random)
    multiplier = random.integers(-(2**31), 2**31, 9).astype(np.int32)
    bias = random.integers(-(2**43), 2**43, 9)
    pads = ((1, 2), (0, 1))
    rows = (7 + 3 - 2 * dilation - 1) // stride + 1
    columns = (6 + 1 - dilation - 1) // stride + 1
    residual = numbers((2, rows, columns, 9), random) if with_residual else None
    options = {"shift": 35, "zero": -7, "residual": residual, "residual_multiplier": 77}
    y = adder_conv2d_int8(
        x,
        filters,
        multiplier,
        bias,
        strides=stride,
        padding=pads,
        dilations=dilation,
        groups=groups,
        low=-100,
        high=90,
        **options,
    )
    expected = plain(x, filters, multiplier, bias, stride, pads, dilation, groups, -7, 35, residual)
    assert y.dtype == np.int8 and len(np.unique(y)) > 3
    np.testing.assert_array_equal(y, expected)


def test_extremes_leave_nothing_to_chance():
    x, filters = np.full((1, 4, 4, 8), 127, np.int8), np.full((4, 4, 8, 2), -128, np.int8)
    multiplier = np.array([-(2**31), 2**31 - 1], np.int32)
    bias = np.array([2**61, -(2**61)])
    y = adder_conv2d_int8(x, filters, multiplier, bias, shift=46, low=-128, high=127)
    sums = 255 * 4 * 4 * 8
    exact = [(sums * int(m) + int(b)) >> 46 for m, b in zip(multiplier, bias)]
    np.testing.assert_array_equal(y.ravel(), np.clip(exact, -128, 127))


def test_rounds_towards_minus_infinity():
    x, filters = np.array([[[[1]]]], np.int8), np.array([[[[0]]]], np.int8)
    for factor in range(-9, 10):
        y = adder_conv2d_int8(x, filters, np.array([factor], "i4"), np.array([0], "i8"), shift=2)
        assert y.item() == factor // 4


def arguments(**changes):
    random = np.random.default_rng(0)
    made = {
        "x": numbers((1, 3, 3, 2), random),
        "filters": numbers((2, 2, 2, 4), random),
        "multiplier": np.ones(4, np.int32),
        "bias": np.zeros(4, np.int64),
        "shift": 3,
    }
    return {**made, **changes}


@pytest.mark.parametrize(
    "changes,text",
    [
        ({"x": np.zeros((1, 3, 3, 2), np.uint8)}, "`x` must be of type int8"),
        ({"x": np.zeros((3, 3, 2), np.int8)}, "have 4 dimensions"),
        ({"filters": np.zeros((2, 2, 3, 4), np.int8)}, "x's channels / groups"),
        ({"multiplier": np.ones(3, np.int32)}, "a number for each output"),
        ({"bias": np.zeros(4, np.int32)}, "`bias` must be of type int64"),
        ({"shift": 0}, "`shift` must be from 1 to 46"),
        ({"shift": 47}, "Received: shift=47"),
        ({"low": 5, "high": 4}, "low=5, high=4"),
        ({"zero": 128}, "zero=128"),
        ({"bias": np.full(4, 2**62)}, r"\|bias\| at most 2\*\*61"),
        ({"residual": np.zeros((1, 3, 3, 4), np.int8)}, "shape of the output"),
    ],
)
def test_errors(changes, text):
    with pytest.raises(ValueError, match=text):
        adder_conv2d_int8(**arguments(**changes))
    adder_conv2d_int8(**arguments())
