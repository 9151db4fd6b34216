"""The mixture with the l2 response against its formula, and what it does not touch at weight 0."""

import re

import numpy as np
import numpy_adder
import numpy_l2
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d, l2, use_path
from pkkd_tf.ops.geometry import make_geometry

SYMMETRIC, ASYMMETRIC = ((1, 1), (1, 1)), ((2, 0), (1, 3))
WINDOWS = [
    ((3, 3), (stride, stride), padding, (1, 1), groups)
    for stride in (1, 2, 3)
    for padding in ("SAME", "VALID", SYMMETRIC, ASYMMETRIC)
    for groups in (1, 2, 4)
    if groups == 1 or padding in ("SAME", ASYMMETRIC)
] + [
    ((1, 1), (2, 2), "VALID", (1, 1), 1),
    ((3, 2), (1, 1), "SAME", (2, 2), 1),
    ((2, 3), (1, 2), ASYMMETRIC, (2, 1), 4),
    ((5, 3), (3, 1), "SAME", (1, 1), 2),
]


def arrays(shape, filters, window):
    rng = np.random.default_rng(0)
    x, f = 2 * rng.standard_normal(shape), rng.standard_normal(filters)
    return x, f, rng.standard_normal(numpy_adder.forward(x, f, *window).shape)


def response_and_gradients(x, f, dy, window, mode, weight):
    x, f = tf.convert_to_tensor(x), tf.convert_to_tensor(f)
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = adder_conv2d(x, f, *window, mode, weight)
    return y, *tape.gradient(y, [x, f], tf.constant(dy))


@pytest.mark.parametrize("kernel, strides, padding, dilations, groups", WINDOWS)
def test_the_mixture_is_the_formula(kernel, strides, padding, dilations, groups):
    """In float64; the filters' gradient is that of the adder response, whatever the weight."""
    window = strides, padding, dilations, groups
    x, f, dy = arrays((2, 6, 7, 4), (*kernel, 4 // groups, 4), window)
    for mode, weight in (("clipped", 0.25), ("sign", 0.75)):
        y, dx, df = response_and_gradients(x, f, dy, window, mode, weight)
        close = {"rtol": 1e-11, "atol": 1e-11}
        np.testing.assert_allclose(y, numpy_l2.forward(x, f, weight, *window), **close)
        expected = numpy_l2.input_gradient(x, f, dy, weight, mode, *window)
        np.testing.assert_allclose(dx, expected, **close)
        adder = numpy_adder.gradients(x, f, dy, *window, mode)[1]
        np.testing.assert_allclose(df, adder, **close)


@pytest.mark.parametrize("kernel, strides, padding, dilations, groups", WINDOWS[-4:])
def test_the_stated_gradient_is_the_l2_responses_derivative(
    kernel, strides, padding, dilations, groups
):
    window = strides, padding, dilations, groups
    x, f, dy = map(tf.constant, arrays((2, 6, 7, 4), (*kernel, 4 // groups, 4), window))
    geometry = make_geometry(*window)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = l2.response(x, f, geometry)
    stated = l2.input_gradient(x, f, dy, geometry)
    np.testing.assert_allclose(stated, tape.gradient(y, x, dy), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight", [0, 0.0, tf.constant(0.0)])
def test_at_weight_0_it_is_the_adder_response_bit_for_bit(path, weight):
    window = (1, 1), "SAME", (1, 1), 1
    numbers = [a.astype("float32") for a in arrays((2, 5, 5, 3), (3, 3, 3, 4), window)]
    mixed = response_and_gradients(*numbers, window, "clipped", weight)
    plain = response_and_gradients(*numbers, window, "clipped", None)
    for a, b in zip(mixed, plain):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_at_weight_0_nothing_of_l2_is_computed(path, monkeypatch):
    def computed(*_):
        raise AssertionError

    monkeypatch.setattr(l2, "response", lambda *_: tf.py_function(computed, [], tf.float32))
    monkeypatch.setattr(l2, "input_gradient", lambda *_: tf.py_function(computed, [], tf.float32))

    @tf.function
    def gradient(x, weight):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = adder_conv2d(x, tf.ones([3, 3, 2, 4]), l2_weight=weight)
        return tape.gradient(y, x)

    assert gradient(tf.ones([1, 4, 4, 2]), 0.0).shape == (1, 4, 4, 2)
    with pytest.raises(tf.errors.UnknownError, match="AssertionError"):
        gradient(tf.ones([1, 4, 4, 2]), 0.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_sums_accumulate_in_float32(path, dtype):
    window = (2, 2), SYMMETRIC, (1, 1), 1
    x, f, dy = (tf.cast(a, dtype) for a in arrays((3, 9, 9, 16), (3, 3, 16, 8), window))
    y, dx, _ = response_and_gradients(x, f, dy, window, "clipped", 0.5)
    assert y.dtype == dx.dtype == dtype
    exact = [tf.cast(t, tf.float64).numpy() for t in (x, f, dy)]
    # The l1 part is rounded before the mixture, which is rounded once more.
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}[dtype]
    expected = numpy_l2.forward(*exact[:2], 0.5, *window)
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, rtol=2 * unit + 144 * 2.0**-24)
    expected = numpy_l2.input_gradient(*exact, 0.5, "clipped", *window)
    bound = 2 * unit * np.abs(expected).max() + 72 * 72 * 4 * 2.0**-24
    np.testing.assert_allclose(tf.cast(dx, tf.float64), expected, rtol=0, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("jit, groups", [(False, 2), (True, 1)])
def test_unknown_sizes_and_xla(jit, groups):
    window = (2, 2), "SAME", (1, 1), groups
    x, f, dy = arrays((2, 7, 8, 4), (3, 3, 4 // groups, 8), window)
    shape = [2, 7, 8, 4] if jit else [None, None, None, 4]

    @tf.function(jit_compile=jit, input_signature=[tf.TensorSpec(shape, tf.float64)])
    def both(x):
        return response_and_gradients(x, f, dy, window, "clipped", tf.constant(0.5))[:2]

    with use_path("reference"):
        y, dx = both(x)
    np.testing.assert_allclose(y, numpy_l2.forward(x, f, 0.5, *window), rtol=1e-10)
    expected = numpy_l2.input_gradient(x, f, dy, 0.5, "clipped", *window)
    np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan")])
def test_a_weight_out_of_range(weight):
    message = f"`l2_weight` must be in [0, 1]. Received: l2_weight={weight!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        adder_conv2d(tf.ones([1, 3, 3, 1]), tf.ones([1, 1, 1, 1]), l2_weight=weight)
