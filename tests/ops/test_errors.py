"""Every refusal says the rule and what it received."""

import re

import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d

IMAGES, FILTERS = (2, 5, 5, 4), (3, 3, 4, 6)
CASES = [
    (
        {"x": (5, 5, 4)},
        "`x` must have 4 dimensions (batch, height, width, channels) and `filters` 4 known ones "
        "(height, width, channels / groups, outputs). "
        "Received: x.shape=(5, 5, 4), filters.shape=(3, 3, 4, 6)",
    ),
    ({"filters": (3, 3, 4)}, "`filters` 4 known ones"),
    (
        {"filters": (3, 3, 3, 6)},
        "The number of input channels must equal `filters`' third dimension times `groups`. "
        "Received: x.shape=(2, 5, 5, 4), filters.shape=(3, 3, 3, 6), groups=1",
    ),
    ({"groups": 2}, "third dimension times `groups`. Received: x.shape=(2, 5, 5, 4), filters"),
    (
        {"filters": (3, 3, 2, 5), "groups": 2},
        "The number of output channels must be a positive multiple of `groups`. "
        "Received: filters.shape=(3, 3, 2, 5), groups=2",
    ),
    ({"filters": (3, 3, 4, 0)}, "The number of output channels must be a positive multiple"),
    (
        {"filters": (7, 3, 4, 6)},
        "The window must fit into the padded image at least once. Received: "
        "x.shape=(2, 5, 5, 4), filters.shape=(7, 3, 4, 6), padding=VALID, dilations=(1, 1)",
    ),
    ({"dilations": 3}, "The window must fit into the padded image at least once."),
    ({"strides": 0}, "`strides` must be a positive integer or a pair of them. Received: strides=0"),
    ({"strides": (1, 2, 1)}, "`strides` must be a positive integer or a pair of them. Received: "),
    ({"dilations": (1, -1)}, "pair of them. Received: dilations=(1, -1)"),
    ({"groups": 0}, "`groups` must be a positive integer. Received: groups=0"),
    ({"groups": 1.0}, "`groups` must be a positive integer. Received: groups=1.0"),
    (
        {"padding": "CAUSAL"},
        '`padding` must be "SAME", "VALID" or ((top, bottom), (left, right)) with numbers of '
        "pixels >= 0. Received: padding='CAUSAL'",
    ),
    ({"groups": np.int64(0)}, "`groups` must be a positive integer. Received: groups="),
    ({"strides": np.float32(2)}, "`strides` must be a positive integer or a pair of them."),
    ({"strides": np.array([1, 0])}, "pair of them. Received: strides=array([1, 0])"),
    ({"dilations": None}, "pair of them. Received: dilations=None"),
    ({"padding": 1}, "Received: padding=1"),
    ({"padding": ((1, 1.5), (1, 1))}, "Received: padding=((1, 1.5), (1, 1))"),
    ({"padding": ((1, 1), (1, -1))}, "Received: padding=((1, 1), (1, -1))"),
    ({"padding": ((1, 1),)}, "Received: padding=((1, 1),)"),
    (
        {"input_gradient": "exact"},
        "`input_gradient` must be one of ('clipped', 'sign'). Received: input_gradient='exact'",
    ),
]


@pytest.mark.parametrize("change, message", CASES, ids=lambda value: str(value)[:40])
def test_bad_arguments(path, change, message):
    arguments = {"x": IMAGES, "filters": FILTERS, **change}
    arguments |= {name: tf.zeros(arguments[name]) for name in ("x", "filters")}
    with pytest.raises(ValueError, match=re.escape(message)):
        adder_conv2d(**arguments)


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.array])
def test_numpy_integers_are_integers(path, number):
    two, one = number(2), number(1)
    x, filters = tf.random.normal((2, 7, 7, 4)), tf.random.normal((3, 3, 2, 6))
    expected = adder_conv2d(x, filters, 2, ((1, 1), (2, 1)), (1, 2), 2)
    actual = adder_conv2d(x, filters, two, ((one, one), (two, one)), (one, two), two)
    np.testing.assert_array_equal(actual, expected)
    pair = adder_conv2d(x, filters, np.array([2, 2]), np.array([[1, 1], [2, 1]]), (1, 2), two)
    np.testing.assert_array_equal(pair, expected)


@pytest.mark.parametrize("x, filters", [("int32", "int32"), ("float32", "float16")])
def test_bad_types(path, x, filters):
    message = (
        "`x` and `filters` must have one type out of ['float32', 'bfloat16', 'float16', 'float64']."
        f" Received: x.dtype={x}, filters.dtype={filters}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        adder_conv2d(tf.zeros(IMAGES, x), tf.zeros(FILTERS, filters))


def test_unknown_channels(path):
    graph = tf.function(
        lambda x: adder_conv2d(x, tf.zeros(FILTERS)),
        input_signature=[tf.TensorSpec([None, 5, 5, None])],
    )
    message = "third dimension times `groups`. Received: x.shape=(None, 5, 5, None)"
    with pytest.raises(ValueError, match=re.escape(message)):
        graph(tf.zeros(IMAGES))
