"""The response and its gradients against the formulas in plain loops, over a grid of windows."""

import functools
import math

import forms
import numpy as np
import numpy_adder
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d, reference

SYMMETRIC, ASYMMETRIC = ((1, 1), (1, 1)), ((2, 0), (1, 3))
# The compiled op has no float64; float32 rounds a sum of 50 terms to about 50 * 2^-24.
TYPE = {"reference": np.float64, "fusible": np.float64, "compiled": np.float32}
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}
# Kernel, strides, padding, dilations, groups where height and width differ.
ANISOTROPIC = [
    ((3, 1), (1, 3), "SAME", (1, 1), 1),
    ((1, 3), (2, 1), ASYMMETRIC, (2, 1), 2),
    ((2, 5), (3, 2), "SAME", (1, 2), 1),
    ((5, 2), (1, 2), ((0, 2), (3, 0)), (2, 2), 4),
    ((4, 3), (2, 3), "VALID", (1, 2), 2),
]


@functools.cache
def formula(shape, kernel, outputs, *window):
    """Inputs exact in float32; the plain loops' response, and dX and dF of the modes."""
    rng = np.random.default_rng(0)
    filters = *kernel, shape[3] // window[-1], outputs
    x, f = (rng.standard_normal(s).astype(np.float32).astype(np.float64) for s in (shape, filters))
    y = numpy_adder.forward(x, f, *window)
    dy = rng.standard_normal(y.shape).astype(np.float32).astype(np.float64)
    modes = ("clipped", "sign") if math.prod(kernel) < 20 else ("clipped",)  # 5x5: half the time
    modes = {mode: numpy_adder.gradients(x, f, dy, *window, mode) for mode in modes}
    return (x, f, dy), y, modes


def check(path, shape, kernel, outputs, *window):
    """Compares one window's response, dX and dF with the plain loops."""
    inputs, y_expected, modes = formula(shape, kernel, outputs, *window)
    inputs = [array.astype(TYPE[path]) for array in inputs]
    close = {"rtol": TOLERANCE[TYPE[path]], "atol": TOLERANCE[TYPE[path]] * 10}
    for mode, (dx_expected, df_expected) in modes.items():
        y, dx, df = response_and_gradients(*inputs, *window, mode)
        np.testing.assert_allclose(y, y_expected, **close)
        np.testing.assert_allclose(dx, dx_expected, **close)
        np.testing.assert_allclose(df, df_expected, **close)


def response_and_gradients(x, f, dy, *window_and_mode):
    x, f = tf.constant(x), tf.constant(f)
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = adder_conv2d(x, f, *window_and_mode)
    return y, *tape.gradient(y, [x, f], tf.constant(dy))


@pytest.mark.parametrize("groups", [1, 2, "depthwise"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", SYMMETRIC, ASYMMETRIC], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_square_windows(path, kernel, stride, padding, dilation, groups):
    channels, outputs, groups = (3, 6, 3) if groups == "depthwise" else (4, 2, groups)
    window = (stride, stride), padding, (dilation, dilation), groups
    check(path, (2, 9, 10, channels), (kernel, kernel), outputs, *window)


@pytest.mark.parametrize("kernel, strides, padding, dilations, groups", ANISOTROPIC)
def test_unequal_height_and_width(path, kernel, strides, padding, dilations, groups):
    check(path, (3, 8, 11, 4), kernel, 4, strides, padding, dilations, groups)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", SYMMETRIC, ASYMMETRIC], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_square_windows_in_the_form_for_xla(stride, padding, dilation, groups):
    window = (stride, stride), padding, (dilation, dilation), groups
    with forms.use_form("fusible"):
        check("fusible", (2, 9, 10, 4), (3, 3), 4, *window)


@pytest.mark.parametrize("kernel, strides, padding, dilations, groups", ANISOTROPIC)
def test_unequal_height_and_width_in_the_form_for_xla(kernel, strides, padding, dilations, groups):
    with forms.use_form("fusible"):
        check("fusible", (2, 8, 11, 4), kernel, 4, strides, padding, dilations, groups)


@pytest.mark.parametrize("channels, outputs", [(1, 1), (1, 17), (17, 1), (33, 5)])
def test_channel_counts_that_divide_nothing(path, channels, outputs):
    check(path, (1, 5, 5, channels), (3, 3), outputs, (1, 1), "SAME", (1, 1), 1)
    with forms.use_form("fusible"):
        check("fusible", (1, 5, 5, channels), (1, 2), outputs, (1, 1), "SAME", (1, 1), 1)


@pytest.mark.parametrize("batch", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 2), (3, 4)])
def test_small_tiles_equal_the_formula(monkeypatch, batch, stride, groups):
    """64 numbers a tile: several tiles, a last one that is not full, and chunks of channels."""
    monkeypatch.setattr(reference, "TILE_ELEMENTS", 64)
    window = (stride, stride), SYMMETRIC, (1, 1), groups
    check("reference", (batch, 5, 4, 4), (3, 3), 8, *window)


@pytest.mark.parametrize("tile", [1, pytest.param(1000, marks=pytest.mark.slow), 10_000])
def test_tile_size_does_not_change_the_result(monkeypatch, tile):
    rng = np.random.default_rng(1)
    x, f = rng.standard_normal((7, 6, 6, 8)), rng.standard_normal((3, 3, 8, 6))
    dy = rng.standard_normal((7, 6, 6, 6))
    window = (1, 1), "SAME", (1, 1), 1, "clipped"
    untiled = response_and_gradients(x, f, dy, *window)
    monkeypatch.setattr(reference, "TILE_ELEMENTS", tile)
    for actual, expected in zip(response_and_gradients(x, f, dy, *window), untiled):
        np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-13)


def test_an_empty_batch(path):
    x = tf.zeros([0, 5, 5, 3], TYPE[path])
    f = tf.ones([3, 3, 3, 4], TYPE[path])
    y, dx, df = response_and_gradients(x, f, np.zeros((0, 5, 5, 4), TYPE[path]), 1, "SAME")
    assert y.shape == (0, 5, 5, 4) and dx.shape == (0, 5, 5, 3)
    np.testing.assert_array_equal(df, np.zeros((3, 3, 3, 4)))


def test_zero_padding_counts(path):
    """One pixel under a 3x3 window of ones: 8 padded taps |0 - 1| and one |3 - 1|."""
    x = tf.constant(3.0, TYPE[path], shape=[1, 1, 1, 1])
    y = adder_conv2d(x, tf.ones([3, 3, 1, 1], TYPE[path]), padding="SAME")
    assert float(y[0, 0, 0, 0]) == -10


def test_gradient_differs_from_the_derivative(path):
    """|x - f| > 1: the derivative to f is 1, AdderNet's full-precision gradient is x - f."""
    x, f = (np.full((1, 1, 1, 1), v, TYPE[path]) for v in (3.0, 0.5))
    _, dx, df = response_and_gradients(x, f, np.ones_like(x), 1, "VALID")
    assert float(dx[0, 0, 0, 0]) == -1 and float(df[0, 0, 0, 0]) == 2.5
