"""What each number type keeps, with the bound that says why."""

import numpy as np
import numpy_adder
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d

WINDOW = ((2, 2), ((1, 1), (1, 1)), (1, 1), 1)
# Half a unit in the last place: sums accumulate in float32, so only the result is rounded.
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 0.0}
FLOAT32 = 2.0**-24


def run(dtype, offset=0.0):
    """Response, dX and dF in `dtype`, and the plain loops' on the same rounded inputs."""
    rng = np.random.default_rng(0)
    x = tf.cast(rng.standard_normal((3, 9, 9, 16)) + offset, dtype)
    f = tf.cast(rng.standard_normal((3, 3, 16, 8)) + offset, dtype)
    dy = tf.cast(rng.standard_normal((3, 5, 5, 8)), dtype)
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = adder_conv2d(x, f, *WINDOW)
    actual = (y, *tape.gradient(y, [x, f], dy))
    assert all(t.dtype == dtype for t in actual)
    x, f, dy = (t.numpy().astype(np.float64) for t in (x, f, dy))
    expected = (
        numpy_adder.forward(x, f, *WINDOW),
        *numpy_adder.gradients(x, f, dy, *WINDOW, "clipped"),
    )
    return [t.numpy().astype(np.float64) for t in actual], expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_sums_accumulate_in_float32(path, dtype):
    (y, dx, df), (y_expected, dx_expected, df_expected) = run(dtype)
    # 144 terms of one sign: relative error 144 roundings of float32, and the final rounding.
    np.testing.assert_allclose(y, y_expected, rtol=144 * FLOAT32 + ROUNDING[dtype])
    # 9 * 8 terms of either sign, each at most about 4: the same count, absolute.
    dx_bound = {"rtol": ROUNDING[dtype], "atol": 72 * 72 * 4 * FLOAT32}
    np.testing.assert_allclose(dx, dx_expected, **dx_bound)
    # 75 positions, each term at most about 4 * 4.
    df_bound = {"rtol": ROUNDING[dtype], "atol": 75 * 75 * 16 * FLOAT32}
    np.testing.assert_allclose(df, df_expected, **df_bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_common_offset(path, dtype):
    """x and f near 1000: differences near 1 must not drown."""
    if path == "compiled" and dtype == "float64":
        dtype = "float32"
    unit = FLOAT32 if dtype == "float32" else 2.0**-53
    (y, dx, df), (y_expected, dx_expected, df_expected) = run(dtype, offset=1000.0)
    # x - f is exact (Sterbenz) for close numbers, and for a padded tap rounds relative to 1000.
    np.testing.assert_allclose(y, y_expected, rtol=144 * unit)
    np.testing.assert_allclose(dx, dx_expected, rtol=0, atol=72 * 72 * 4 * unit)
    # dF = X^T dY - F sum dY subtracts numbers of size 1000 * sqrt(75): the identity's honest limit.
    np.testing.assert_allclose(df, df_expected, rtol=0, atol=75 * 1000 * 4 * unit)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_nan_reaches_the_outputs_it_touches(path, dtype):
    x = np.zeros((1, 5, 5, 2))
    x[0, 0, 0, 1] = np.nan
    x, f = tf.cast(x, dtype), tf.ones([3, 3, 2, 4], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = adder_conv2d(x, f, padding="SAME")
    dx = tape.gradient(y, x)
    touched = np.zeros((5, 5), bool)
    touched[:2, :2] = True
    is_nan = np.isnan(y.numpy().astype(np.float32))
    np.testing.assert_array_equal(is_nan, np.broadcast_to(touched[None, ..., None], is_nan.shape))
    assert np.isnan(dx.numpy().astype(np.float32)).sum() == 1
