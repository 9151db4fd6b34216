"""The ranges that calibration finds, beside other ranges and an own computation of the error."""

import re

import numpy as np
import numpy_adder
import pytest

from pkkd_tf.quantization import best_range, calibration, tensor_range

WINDOW = {"strides": (2, 1), "padding": "SAME", "dilations": (1, 1), "groups": 2}


def activations(signed=False, shape=(6, 9, 8, 4)):
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    return x if signed else np.maximum(x, 0)


def filters():
    return np.random.default_rng(1).standard_normal((3, 3, 2, 6)).astype("f") * 2


def error(x, f, low, high, bits):
    """The error by NumPy alone: variance over the images of what the channels' responses miss."""
    scale = (high - low) / (2**bits - 1)
    q = [np.round(np.clip(a.astype(float), low, high) / scale) * scale for a in (x, f)]
    bias = -np.abs(f - np.clip(f, low, high)).sum((0, 1, 2))
    window = tuple(WINDOW.values())
    difference = numpy_adder.forward(*q, *window) + bias - numpy_adder.forward(x, f, *window)
    return difference.var((0, 1, 2)).sum()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [3, 8])
def test_best_range_has_the_smallest_error(path, signed, bits):
    x, f = activations(signed), filters()
    low, high = best_range(x, f, **WINDOW, bits=bits)
    assert low < 0 < high if signed else low == 0 < high
    scale = (high - low) / (2**bits - 1)
    assert low / scale == pytest.approx(round(low / scale), abs=1e-4)
    best = error(x, f, low, high, bits)
    for factor in (0.3, 0.7, 1.4, 2.0):
        assert best <= error(
            x, f, *calibration.nudged_range(low * factor, high * factor, bits), bits
        )
    quantile = float(np.quantile(np.abs(x), 0.9997))
    for other in (x.max(), quantile):
        ends = calibration.nudged_range(-other if signed else 0, other, bits)
        assert best <= 1.02 * error(x, f, *ends, bits)


def test_error_is_the_stated_one(path):
    x, f = activations(), filters()
    calculate = calibration.response_error(x, f, tuple(WINDOW.values()), 4)
    exact = numpy_adder.forward(x, f, *WINDOW.values())
    for high in (0.5, 2.0):
        expected = error(x, f, 0, high, 4) / exact.var((0, 1, 2)).sum()
        assert calculate(0.0, high) == pytest.approx(expected, rel=1e-4)


def test_an_outlier_is_clipped_where_levels_are_few():
    x = activations(shape=(200, 9, 8, 4))
    x[0, 0, 0, 0] = 12.0
    assert best_range(x, filters(), **WINDOW, bits=3)[1] < 6
    assert tensor_range(x, bits=3)[1] < 6


def test_wide_filters_do_not_widen_the_range():
    x, f = activations(), filters()
    assert best_range(x, f * 100, **WINDOW)[1] <= x.max() * (1 + 1e-6)


def test_all_of_a_cheap_tensor_is_kept_at_eight_bits():
    x = np.linspace(-1, 3, 1000)
    low, high = tensor_range(x)
    assert low == pytest.approx(-1, abs=0.1) and high == pytest.approx(3, abs=0.1)
    assert tensor_range(np.zeros(3))[1] > 0  # a scale is left to divide by


def test_few_images_are_used_of_an_expensive_layer(monkeypatch):
    x, f = activations(), filters()
    monkeypatch.setattr(calibration, "MOST_TERMS", 1)
    only_first = best_range(x, f, **WINDOW)
    x[1:] *= 100
    assert best_range(x, f, **WINDOW) == only_first


@pytest.mark.parametrize("x", [np.zeros((0, 4, 4, 4)), np.full((1, 4, 4, 4), np.nan)])
def test_nothing_to_calibrate_on(x):
    message = f"only finite ones. Received: x.shape={x.shape}, finite={x.size == 0}"
    with pytest.raises(ValueError, match=re.escape(message)):
        best_range(x, filters(), **WINDOW)
    with pytest.raises(ValueError, match=re.escape(message)):
        tensor_range(x)


def test_numpy_integers_are_integers():
    x, f = activations(), filters()
    assert best_range(x, f, **WINDOW, bits=np.uint8(8)) == best_range(x, f, **WINDOW, bits=8)
    assert tensor_range(x, np.uint8(8)) == tensor_range(x, 8)
