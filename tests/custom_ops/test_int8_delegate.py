"""AdderConv2D of int8 in the TFLite delegate: bit for bit the formula, and words for the rest."""

import re

import numpy as np
import pytest

from tests import adder_models, delegate_library, numpy_adder_int8
from tests.adder_models import int8_model, to_bytes
from tests.custom_ops.test_delegate import CASES, KINDS, geometry

OPTIONS = adder_models.OPTIONS | {"zero": -7, "shift": 20, "low": -120, "high": 101}
MOST_BIAS = 2**61


def int8s(*shape):
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape, np.int8)


def layer(f, seed=0):
    """Multiplier and bias that spread the responses over the range of the output."""
    terms, outputs = np.prod(f.shape[:3]), f.shape[3]
    rng = np.random.default_rng(seed)
    multiplier = -rng.integers(2**20, 2**23, outputs) // int(np.sqrt(terms))
    bias = -multiplier * 85 * terms + rng.integers(-(2**24), 2**24, outputs)
    return multiplier.astype(np.int32), bias.astype(np.int64)


def expected(x, f, multiplier, bias, options, residual=None):
    strides, padding, dilations, groups = geometry(options)
    names = ("zero", "shift", "low", "high", "residual_multiplier")
    return numpy_adder_int8.forward(
        x,
        f,
        multiplier,
        bias,
        residual=residual,
        strides=strides,
        padding=padding,
        dilations=dilations,
        groups=groups,
        **{name: options[name] for name in names if name in options},
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_response(case, kind):
    x_shape, f_shape, changes = CASES[case]
    options = OPTIONS | changes
    x, f = int8s(*x_shape), int8s(*f_shape)
    constants = layer(f)
    model = to_bytes(int8_model((1, *x_shape[1:]), f, *constants, options))
    y = delegate_library.run(delegate_library.interpreter(model, kind), x)
    wanted = expected(x, f, *constants, options)
    assert y.dtype == np.int8 and len(np.unique(wanted)) > 10
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [8, 0, 1])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_residual_batch_and_threads(kind, batch, threads):
    options = OPTIONS | {"residual": 1, "residual_multiplier": -(2**19), "low": 0}
    x, f, residual = int8s(batch, 16, 16, 16), int8s(3, 3, 16, 24), int8s(batch, 16, 16, 24)
    constants = layer(f)
    model = int8_model((1, 16, 16, 16), f, *constants, options, residual_shape=(1, 16, 16, 24))
    made = delegate_library.interpreter(to_bytes(model), kind, num_threads=threads)
    y = delegate_library.run(made, x, residual)
    np.testing.assert_array_equal(y, expected(x, f, *constants, options, residual))


def test_extreme_integers():
    f = np.full((1, 1, 3, 4), 127, np.int8)
    x = np.full((1, 2, 2, 3), -128, np.int8)
    pads = dict.fromkeys(list(OPTIONS)[2:6], 0)
    multiplier = np.array([-(2**31), 2**31 - 1, -1, 0], np.int32)
    bias = np.array([-MOST_BIAS, MOST_BIAS, 0, 1], np.int64)
    for shift in (1, 30, 46):
        options = OPTIONS | pads | {"shift": shift, "low": -128, "high": 127}
        model = to_bytes(int8_model(x.shape, f, multiplier, bias, options))
        y = delegate_library.run(delegate_library.interpreter(model), x)
        np.testing.assert_array_equal(y, expected(x, f, multiplier, bias, options))


@pytest.mark.parametrize("kind", KINDS)
def test_what_else_may_be_computed(kind):
    x, f = int8s(1, 5, 5, 3), int8s(3, 3, 3, 6)
    names = ("filters", "multiplier", "bias")
    model = int8_model(x.shape, f, *layer(f), OPTIONS, computed=names)
    made = delegate_library.interpreter(to_bytes(model), kind)
    for seed in (1, 2):
        constants = layer(f, seed)
        y = delegate_library.run(made, x, f, *constants)
        np.testing.assert_array_equal(y, expected(x, f, *constants, OPTIONS))
        f = np.roll(f, 1)
    constants[1][4] = MOST_BIAS + 1
    with pytest.raises(RuntimeError, match=r"bias of AdderConv2D must be from .*bias\[4\]=2305843"):
        delegate_library.run(made, x, f, *constants)


def without(name):
    return {key: value for key, value in OPTIONS.items() if key != name}


def with_type(index, number):
    def change(model):
        model.subgraphs[0].tensors[index].type = number

    return change


def dropped_input(model):
    model.subgraphs[0].operators[0].inputs.pop()


TYPES = "must be int8, with an int32 multiplier and an int64 bias, if x is. Received: type number="
DAMAGES = {
    "no zero": (without("zero"), None, "needs the option zero. Received: options without it"),
    "no shift": (without("shift"), None, "needs the option shift. Received: options without it"),
    "no low": (without("low"), None, "needs the option low. Received: options without it"),
    "no high": (without("high"), None, "needs the option high. Received: options without it"),
    "no stride": (without("stride_w"), None, "needs the option stride_w. Received: options wi"),
    "zero": (OPTIONS | {"zero": 128}, None, "zero must be from -128 to 127. Received: zero=128"),
    "shift 0": (OPTIONS | {"shift": 0}, None, "shift must be from 1 to 46. Received: shift=0"),
    "shift 47": (OPTIONS | {"shift": 47}, None, "from 1 to 46. Received: shift=47"),
    "high": (OPTIONS | {"high": 300}, None, "high must be from -128 to 127. Received: high=300"),
    "low": (
        OPTIONS | {"low": 102},
        None,
        "The option low must be at most high. Received: low=102, high=101",
    ),
    "affine": (
        OPTIONS | {"affine": 1},
        None,
        "affine belongs to AdderConv2D of float32, and x decides. Received: x of int8, affine=1",
    ),
    "relu": (OPTIONS | {"relu": 0}, None, "float32, and x decides. Received: x of int8, relu=0"),
    "multiplier of nothing": (
        OPTIONS | {"residual_multiplier": 5},
        None,
        "must be 0 without a residual. Received: residual_multiplier=5",
    ),
    "huge multiplier": (
        OPTIONS | {"residual_multiplier": 2**31},
        None,
        "from -2147483648 to 2147483647. Received: residual_multiplier=2147483648",
    ),
    "residual": (OPTIONS | {"residual": 1}, None, "needs the option residual_multiplier. Recei"),
    "few inputs": (OPTIONS, dropped_input, "must have 4 inputs, as x and its options say, and 1"),
    "filters": (OPTIONS, with_type(1, 3), TYPES + "3, tensor index=1"),
    "multiplier": (OPTIONS, with_type(2, 0), TYPES + "1, tensor index=2"),
    "bias": (OPTIONS, with_type(3, 12), TYPES),
    "output": (OPTIONS, with_type(4, 0), TYPES + "1, tensor index=4"),
    "x": (OPTIONS, with_type(0, 3), "must be float32 or int8. Received: type number=3"),
    "float x": (
        OPTIONS,
        with_type(0, 0),
        "belongs to AdderConv2D of int8, and x decides. Received: x of float32, zero=-7",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_gets_an_error(damage):
    options, change, message = DAMAGES[damage]
    f = int8s(3, 3, 4, 8)
    model = int8_model((1, 6, 6, 4), f, *layer(f), options)
    if change:
        change(model)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        delegate_library.interpreter(to_bytes(model))


def test_constants_must_fit():
    f = int8s(3, 3, 4, 8)
    multiplier, bias = layer(f)
    refused = {
        "multiplier and bias must have a number for each output. Received: shape=(7)": bias[:7],
        "Received: bias[2]=-2305843009213693953": np.where(np.arange(8) == 2, -(2**61) - 1, bias),
    }
    for message, wrong in refused.items():
        model = int8_model((1, 6, 6, 4), f, multiplier, wrong, OPTIONS)
        with pytest.raises(RuntimeError, match=re.escape(message)):
            delegate_library.interpreter(to_bytes(model))


def test_residual_must_have_the_shape_of_the_output():
    f = int8s(3, 3, 4, 8)
    options = OPTIONS | {"residual": 1, "residual_multiplier": 9}
    model = int8_model((1, 6, 6, 4), f, *layer(f), options, residual_shape=(1, 6, 6, 4))
    with pytest.raises(RuntimeError, match="residual must have the shape of the output. Received"):
        delegate_library.interpreter(to_bytes(model))


def test_a_window_must_not_overflow_the_sums():
    f = np.zeros((1, 1, 2**22 + 1, 1), np.int8)
    pads = dict.fromkeys(list(OPTIONS)[2:6], 0)
    model = int8_model((1, 1, 1, 2**22 + 1), f, *layer(f), OPTIONS | pads)
    with pytest.raises(RuntimeError, match="at most 4194304 numbers. Received: 4194305"):
        delegate_library.interpreter(to_bytes(model))
