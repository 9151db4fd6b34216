"""Rounding, clipping and their gradients against the stated formulas."""

import re

import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d
from pkkd_tf.quantization import FakeQuantize, fake_quantize, quantize_filters, quantize_weights
from pkkd_tf.quantization.fake_quantize import nudged_range, scale_and_zero_point

# Scale, zero point, bits: after a ReLU, signed, and with all levels below 0.
RANGES = [(0.25, 0, 4), (0.013, 100, 8), (0.5, 1, 2), (0.3, 7, 3)]


def numbers(shape, seed=0, size=2.0):
    return np.random.default_rng(seed).standard_normal(shape) * size


def run(function, arguments, graph):
    function = tf.function(function) if graph else function
    return function(*(tf.constant(a, tf.float64) for a in arguments))


@pytest.mark.parametrize("low, high", [(0.0, 3.0), (-1.0, 2.0), (-5.0, 0.1), (0.2, 3.0), (0, 0)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zero_is_a_level_and_the_width_is_kept(low, high, bits):
    scale, zero_point = scale_and_zero_point(low, high, bits)
    assert 0 <= zero_point <= 2**bits - 1 and isinstance(zero_point, int) and scale > 0
    ends = nudged_range(low, high, bits)
    width = max(high, 0) - min(low, 0)
    assert ends[1] - ends[0] == pytest.approx(width, abs=1e-12)
    assert ends == pytest.approx((min(low, 0), max(high, 0)), abs=scale / 2 + 1e-12)


@pytest.mark.parametrize("low, high", [(1.0, 0.5), (0.0, np.inf), (np.nan, 1.0)])
def test_no_range(low, high):
    message = f"A range must be finite and `low <= high`. Received: low={low}, high={high}"
    with pytest.raises(ValueError, match=re.escape(message)):
        scale_and_zero_point(low, high)


@pytest.mark.parametrize("bits", [1, 9, 4.0])
@pytest.mark.parametrize(
    "function",
    [
        lambda bits: fake_quantize([1.0], 1.0, 0.0, bits),
        lambda bits: quantize_filters([1.0], 1.0, 0.0, bits),
        lambda bits: quantize_weights([1.0], bits),
        lambda bits: scale_and_zero_point(0.0, 1.0, bits),
    ],
)
def test_bits_out_of_range(function, bits):
    message = f"`bits` must be an integer from 2 to 8. Received: bits={bits!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        function(bits)


@pytest.mark.parametrize("bits", [np.int64(4), np.uint8(4), tf.constant(4)], ids=lambda n: type(n))
def test_other_libraries_integers_are_integers(bits):
    x = np.linspace(-1, 9, 50)
    for function in (fake_quantize, quantize_filters):
        np.testing.assert_array_equal(function(x, 0.5, 2.0, bits), function(x, 0.5, 2.0, 4))
    np.testing.assert_array_equal(quantize_weights(x, bits), quantize_weights(x, 4))
    assert nudged_range(-1.0, 7.5, bits) == nudged_range(-1.0, 7.5, 4)
    assert type(FakeQuantize(bits).get_config()["bits"]) is int


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("scale, zero, bits", RANGES)
def test_rounding_and_its_gradients(scale, zero, bits, graph):
    x, dy = numbers((5, 40)), numbers((5, 40), 1)

    def gradients(x, s, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, s])
            y = fake_quantize(x, s, zero, bits)
        return y, *tape.gradient(y, [x, s], dy)

    y, dx, ds = run(gradients, (x, scale, dy), graph)
    most = 2**bits - 1
    level = np.clip(np.round(x / scale) + zero, 0, most) - zero
    inside = (x / scale >= -zero) & (x / scale <= most - zero)
    assert inside.any() and (x < -zero * scale).any() and (x > (most - zero) * scale).any()
    np.testing.assert_allclose(y, level * scale, rtol=1e-12)
    np.testing.assert_array_equal(dx, np.where(inside, dy, 0))
    slope = np.where(inside, np.round(x / scale) - x / scale, np.where(x > 0, most - zero, -zero))
    np.testing.assert_allclose(ds, (slope * dy).sum(), rtol=1e-12)


def test_the_ends_are_inside():
    x = tf.constant([0.0, 7.5])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fake_quantize(x, 0.5, 0.0, 4)
    np.testing.assert_array_equal(tape.gradient(y, x), [1, 1])


def test_rounding_twice_is_rounding_once():
    x = numbers(10_000).astype("f")
    for scale, zero, bits in RANGES:
        once = fake_quantize(x, scale, zero, bits)
        np.testing.assert_array_equal(fake_quantize(once, scale, zero, bits), once)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_types_are_kept(dtype):
    x = tf.cast(numbers((4, 3)), dtype)
    assert fake_quantize(x, 0.25, 3.0, 4).dtype == dtype
    assert quantize_weights(x).dtype == dtype
    assert quantize_filters(x, 0.25, 3.0, 4).dtype == dtype


@pytest.mark.parametrize("scale, zero, bits", RANGES)
def test_clipping_the_filters_is_exact(path, scale, zero, bits):
    """What a deployed network computes: clipped filters, and a bias for what was cut off."""
    low, high = -zero * scale, (2**bits - 1 - zero) * scale
    filters = numbers((3, 3, 4, 6), size=3.0).astype("f")
    clipped = np.clip(filters, low, high)
    assert (filters < low).any() and (filters > high).any()
    x = fake_quantize(numbers((2, 7, 6, 4), 1).astype("f"), scale, zero, bits)
    rounded, bias = np.round(clipped / scale) * scale, -np.abs(filters - clipped).sum((0, 1, 2))
    options = {"padding": "SAME", "strides": 2}
    np.testing.assert_allclose(
        adder_conv2d(x, quantize_filters(filters, scale, zero, bits), **options),
        adder_conv2d(x, rounded.astype("f"), **options) + bias,
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("scale, zero, bits", RANGES)
def test_filters_and_their_gradient(scale, zero, bits, graph):
    w, dy = numbers((3, 2, 4, 6)), numbers((3, 2, 4, 6), 1)

    def gradients(w, s, dy):
        with tf.GradientTape() as tape:
            tape.watch([w, s])
            filters = quantize_filters(w, s, zero, bits)
        return filters, *tape.gradient(filters, [w, s], dy, unconnected_gradients="zero")

    filters, dw, ds = run(gradients, (w, scale, dy), graph)
    clipped = np.clip(w, -zero * scale, (2**bits - 1 - zero) * scale)
    expected = np.round(clipped / scale) * scale + w - clipped
    np.testing.assert_allclose(filters, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(dw, dy)
    assert ds == 0


def test_weights_have_a_scale_an_output_channel():
    w = numbers((3, 3, 4, 6)) * np.array([1e-3, 1.0, 10.0, 0.0, 2.0, 3.0])
    with tf.GradientTape() as tape:
        w_ = tf.constant(w)
        tape.watch(w_)
        y = quantize_weights(w_)
    scale = np.abs(w).max((0, 1, 2)) / 127
    scale[3] = 1.0
    np.testing.assert_allclose(y, np.round(w / scale) * scale, rtol=1e-9, atol=1e-15)
    dy = numbers(w.shape, 1)
    np.testing.assert_array_equal(tape.gradient(y, w_, tf.constant(dy)), dy)
