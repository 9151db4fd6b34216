"""The response and its gradients against plain loops in float64, over drawn windows and numbers.

300 cases, the same every time; 10,000 others, new ones every time, by
`HYPOTHESIS_PROFILE=long python -m pytest -m slow tests/ops/test_properties.py`.
"""

import os
from typing import NamedTuple

import forms
import keras
import numpy as np
import numpy_adder
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkkd_tf.layers import AdderConv2D
from pkkd_tf.ops import adder_conv2d, compiled, paths

PATHS = ["reference", *(["compiled"] if compiled.is_available() else [])]
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
PROFILE = {
    "derandomize": not LONG,
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}
# Of the result; sums accumulate in float32, or float64 for float64.
ROUNDING = {"float64": 0.0, "float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-11}
REGIMES = ("normal", "offset", "huge", "tiny", "integers", "huge filters")


class Case(NamedTuple):
    dtype: str
    shape: tuple
    filters: tuple
    window: tuple  # strides, padding, dilations, groups
    mode: str
    regime: str
    specials: list  # (0 of x, 1 of f, 2 of dY; what is put there)
    seed: int


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def windows(draw):
    """Shape of the images, shape of the filters, (strides, padding, dilations, groups)."""
    kernel, dilations, strides = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    groups = draw(st.integers(1, 4))
    inputs, outputs = draw(st.sampled_from([1, 1, 2, 3, 5, 8, 19])), draw(st.integers(1, 5))
    padding = draw(st.sampled_from(["SAME", "VALID", "explicit"]))
    if padding == "explicit":
        padding = draw(st.tuples(pairs(0, 4), pairs(0, 4)))
    size = []
    for axis, (taps, dilation) in enumerate(zip(kernel, dilations)):
        least = dilation * (taps - 1) + 1  # a window must fit
        least = {"SAME": 1, "VALID": least}.get(padding) or max(least - sum(padding[axis]), 0)
        size.append(least + draw(st.integers(0, 5)))
    shape = draw(st.integers(0, 3)), *size, inputs * groups
    return shape, (*kernel, inputs, outputs * groups), (strides, padding, dilations, groups)


@st.composite
def cases(draw):
    special = st.tuples(st.integers(0, 2), st.sampled_from([np.nan, np.inf, -np.inf]))
    return Case(
        draw(st.sampled_from(sorted(ROUNDING))),
        *draw(windows()),
        draw(st.sampled_from(["clipped", "sign"])),
        draw(st.sampled_from(REGIMES)),
        draw(st.one_of(st.just([]), st.lists(special, max_size=3))),
        draw(st.integers(0, 2**16)),
    )


def arrays(case, shape, rng):
    """x and f, exact in the case's type, of the sizes its regime has."""
    huge, tiny = (2e4, 1e-4) if case.dtype == "float16" else (1e30, 1e-30)
    scale = {"huge": (huge, huge), "tiny": (tiny, tiny), "huge filters": (1, huge)}
    for factor, size in zip(scale.get(case.regime, (1, 1)), shape):
        numbers = rng.standard_normal(size) * factor + 1000 * (case.regime == "offset")
        yield np.rint(numbers) if case.regime == "integers" else numbers


def inputs_of(case):
    """x, f and dY as float64 arrays that the case's type represents exactly."""
    rng = np.random.default_rng(case.seed)
    x, f = arrays(case, (case.shape, case.filters), rng)
    with np.errstate(all="ignore"):
        y_shape = numpy_adder.forward(np.zeros(case.shape), f, *case.window).shape
    numbers = [x, f, rng.standard_normal(y_shape)]
    for which, value in case.specials:
        if numbers[which].size:
            numbers[which].flat[rng.integers(numbers[which].size)] = value
    return [as_float64(tf.cast(a, case.dtype)) for a in numbers]


def as_float64(tensor):
    return tf.cast(tensor, tf.float64).numpy()


def response_and_gradients(case, numbers):
    x, f, dy = (tf.cast(a, case.dtype) for a in numbers)
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = adder_conv2d(x, f, *case.window, case.mode)
    results = y, *tape.gradient(y, [x, f], dy)
    assert all(r.dtype == case.dtype for r in results)
    return [as_float64(r) for r in results]


def largest(array):
    return np.abs(array[np.isfinite(array)]).max(initial=0.0)


def bounds(case, x, f, dy):
    """Absolute errors of y (relative to it), dX and dF that rounding may leave."""
    kh, kw, inputs, outputs = case.filters
    unit = 2.0**-53 if case.dtype == "float64" else 2.0**-24
    terms, places = kh * kw * inputs, dy.size // outputs
    uses = kh * kw * outputs // case.window[-1]
    # y: terms of one sign. dX: terms up to |dY|. dF: X^T dY - F sum dY, both of their full size.
    return (
        (terms + 2) * unit,
        4 * uses * (uses + 2) * unit * largest(dy),
        4 * places * (places + 2) * unit * (largest(x) + largest(f)) * largest(dy),
    )


def check(name, dtype, actual, expected, relative, absolute, same_kind=True):
    """Close where `expected` is finite in `dtype`; where it is not, not finite either."""
    limit = tf.as_dtype(dtype).max * (1 - 2.0**-7)
    relative, absolute = relative + ROUNDING[dtype], absolute + 2.0**-25 * (dtype == "float16")
    assert actual.shape == expected.shape, name
    fits = np.abs(expected) < limit
    np.testing.assert_allclose(actual[fits], expected[fits], relative, absolute + 2e-38, name)
    beyond = ~fits & np.isfinite(expected)
    assert (np.sign(expected[beyond]) * actual[beyond] > 0.99 * limit).all(), name
    other = ~np.isfinite(expected)
    assert not np.isfinite(actual[other]).any(), name
    if same_kind:
        np.testing.assert_array_equal(actual[other], expected[other], name)


@pytest.mark.slow
@settings(**PROFILE, max_examples=10_000 if LONG else 300)
@given(cases())
def test_every_path_keeps_the_formulas(case):
    x, f, dy = inputs_of(case)
    with np.errstate(all="ignore"):
        y = numpy_adder.forward(x, f, *case.window)
        dx, df = numpy_adder.gradients(x, f, dy, *case.window, case.mode)
        y_bound, dx_bound, df_bound = bounds(case, x, f, dy)
    for path in forms.FORMS:
        if path == "compiled" and case.dtype == "float64":
            continue  # has none; the error is tested in test_execution.py
        if path == "fusible" and case.seed % 4 and not LONG:
            continue  # slow outside of XLA
        with forms.use_form(path):
            actual = response_and_gradients(case, (x, f, dy))
        check(f"{path}: y", case.dtype, actual[0], y, y_bound, 0.0)
        check(f"{path}: dX", case.dtype, actual[1], dx, 0.0, dx_bound)
        # A filter times the sum of dY, not the sum of its products: NaN or infinite where it is.
        df[~np.isfinite(f)] = np.nan
        check(f"{path}: dF", case.dtype, actual[2], df, 0.0, df_bound, same_kind=False)


@st.composite
def layer_cases(draw):
    shape, filters, (strides, padding, dilations, groups) = draw(windows())
    if not isinstance(padding, str):
        shape, padding = (shape[0], *(max(size, 10) for size in shape[1:3]), shape[3]), "SAME"
    if max(strides) > 1:
        dilations = (1, 1)
    dtype = draw(st.sampled_from(["float32", "mixed_float16", "mixed_bfloat16", "float64"]))
    return dtype, shape, filters, (strides, padding, dilations, groups), draw(st.integers(0, 99))


@pytest.mark.slow
@settings(**PROFILE, max_examples=1000 if LONG else 40)
@given(layer_cases())
def test_both_layouts_of_the_layer_are_the_operation(case):
    dtype, shape, filters, window, seed = case
    rng = np.random.default_rng(seed)
    x, f = rng.standard_normal(shape), rng.standard_normal(filters)
    strides, padding, dilations, groups = window
    options = {"strides": strides, "padding": padding.lower(), "dilation_rate": dilations}
    kind = keras.DTypePolicy(dtype).compute_dtype
    x = tf.cast(x, kind)
    for path in PATHS if dtype != "float64" else ["reference"]:
        with paths.use_path(path):
            expected = adder_conv2d(x, tf.cast(tf.cast(f, tf.float32), kind), *window)
            for layout in ("channels_last", "channels_first"):
                first = layout == "channels_first"
                order, back = ([0, 3, 1, 2], [0, 2, 3, 1]) if first else ([0, 1, 2, 3],) * 2
                layer = AdderConv2D(
                    filters[3],
                    filters[:2],
                    groups=groups,
                    data_format=layout,
                    dtype=dtype,
                    **options,
                )
                layer.build([shape[i] for i in order])
                layer.kernel.assign(tf.cast(tf.cast(f, tf.float32), layer.kernel.dtype))
                y = layer(tf.transpose(x, order))
                np.testing.assert_array_equal(
                    as_float64(tf.transpose(y, back)), as_float64(expected)
                )
