"""The same numbers eagerly, in a graph, under XLA, from a SavedModel and on two replicas."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d, paths, use_path

WINDOW = {"strides": 2, "padding": ((1, 1), (1, 1))}


@pytest.fixture
def tensors():
    x, f = tf.random.normal([4, 9, 8, 3]), tf.random.normal([3, 3, 3, 5])
    return x, f, tf.random.normal([4, 5, 4, 5])


def response_and_gradients(x, f, dy, window=WINDOW):
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = adder_conv2d(x, f, **window)
    return y, *tape.gradient(y, [x, f], dy)


def assert_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def test_graph_equals_eager(path, tensors):
    assert_close(tf.function(response_and_gradients)(*tensors), response_and_gradients(*tensors))


def test_xla_equals_eager(tensors):
    compiled = tf.function(response_and_gradients, jit_compile=True)
    assert_close(compiled(*tensors), response_and_gradients(*tensors))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel, window, inputs, outputs, mode",
    [
        ((3, 3), ((1, 1), "SAME", (1, 1), 1), 16, 16, "clipped"),  # a whole chunk of terms
        ((3, 2), ((2, 2), "SAME", (1, 1), 1), 35, 33, "clipped"),  # two and a rest
        ((1, 1), ((2, 3), "VALID", (1, 1), 1), 5, 17, "sign"),  # pixels that nothing sees
        ((2, 3), ((3, 1), ((1, 0), (2, 1)), (2, 1), 2), 6, 4, "sign"),
        ((3, 3), ((2, 2), "SAME", (1, 1), 8), 8, 16, "clipped"),
    ],
    ids=str,
)
def test_windows_under_xla(kernel, window, inputs, outputs, mode):
    x = tf.random.normal([2, 7, 8, inputs])
    f = tf.random.normal([*kernel, inputs // window[-1], outputs])
    dy = tf.random.normal(adder_conv2d(x, f, *window).shape)
    window = dict(zip(("strides", "padding", "dilations", "groups"), window), input_gradient=mode)
    run = tf.function(lambda *t: response_and_gradients(*t, window), jit_compile=True)
    assert_close(run(x, f, dy), response_and_gradients(x, f, dy, window))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_types_under_xla(tensors, dtype):
    tensors = [tf.cast(t, dtype) for t in tensors]
    results = tf.function(response_and_gradients, jit_compile=True)(*tensors)
    assert all(r.dtype == dtype for r in results)
    unit = {"float64": 1e-12, "bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    for actual, expected in zip(results, response_and_gradients(*tensors), strict=True):
        a, e = (tf.cast(t, tf.float64) for t in (actual, expected))
        np.testing.assert_allclose(a, e, rtol=2 * unit, atol=20 * unit)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["clipped", "sign"])
def test_nan_under_xla(tensors, mode):
    x, f, dy = (t.numpy() for t in tensors)
    x[1, 4, 4, 0] = f[0, 0, 1, 2] = np.nan
    window = {**WINDOW, "input_gradient": mode}
    run = tf.function(lambda *t: response_and_gradients(*t, window), jit_compile=True)
    pairs = zip(run(x, f, dy), response_and_gradients(*map(tf.constant, (x, f, dy)), window))
    for actual, expected in list(pairs)[:2]:  # dF is the convolution's own
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))


def test_no_compiled_operation_is_left_under_xla(tensors):
    run = tf.function(response_and_gradients, jit_compile=True)
    graph = run.get_concrete_function(*tensors).graph
    loops = [op for op in graph.get_operations() if op.type in ("While", "StatelessWhile")]
    assert len(loops) >= 2 and "PkkdAdder" not in str(graph.as_graph_def())


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (2, 0))], ids=str)
@pytest.mark.parametrize("shape", [(None, 9, 8, 3), (4, None, None, 3), (None, None, None, 3)])
def test_unknown_dimensions(path, tensors, shape, padding):
    window = {"strides": 2, "padding": padding}
    x, f, _ = tensors
    expected = adder_conv2d(x, f, **window)
    graph = tf.function(
        lambda x, f, dy: response_and_gradients(x, f, dy, window),
        input_signature=[tf.TensorSpec(s) for s in (shape, f.shape, (None, None, None, 5))],
    )
    dy = tf.random.normal(expected.shape)
    assert_close(graph(x, f, dy), response_and_gradients(x, f, dy, window))
    assert graph.get_concrete_function().structured_outputs[0].shape[3] == 5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, 9, 8, 3), (None, None, None, 3)])
def test_unknown_dimensions_under_xla(tensors, shape):
    x, f, dy = tensors
    graph = tf.function(
        response_and_gradients,
        input_signature=[tf.TensorSpec(s) for s in (shape, f.shape, (None, None, None, 5))],
        jit_compile=True,
    )
    assert_close(graph(x, f, dy), response_and_gradients(x, f, dy))


def test_unknown_batch_that_is_empty(path, tensors):
    _, f, _ = tensors
    signature = [tf.TensorSpec([None, 9, 8, 3]), tf.TensorSpec(f.shape)]
    graph = tf.function(lambda x, f: adder_conv2d(x, f), input_signature=signature)
    assert graph(tf.zeros([0, 9, 8, 3]), f).shape == (0, 7, 6, 5)


@pytest.mark.parametrize("size", [(9, 8), (None, None)])
def test_gradients_of_an_unknown_batch_that_is_empty(path, tensors, size):
    _, f, _ = tensors
    shapes = [None, *size, 3], f.shape, [None, None, None, 5]
    signature = [tf.TensorSpec(shape) for shape in shapes]
    graph = tf.function(response_and_gradients, input_signature=signature)
    y, dx, df = graph(tf.zeros([0, 9, 8, 3]), f, tf.zeros([0, 5, 4, 5]))
    assert (y.shape, dx.shape) == ((0, 5, 4, 5), (0, 9, 8, 3))
    np.testing.assert_array_equal(df, 0 * f)


def test_saved_model_keeps_response_and_gradients(path, tensors, tmp_path):
    x, f, dy = tensors
    module = tf.Module()
    module.respond = tf.function(
        lambda x, f: adder_conv2d(x, f, **WINDOW),
        input_signature=[tf.TensorSpec([None, 9, 8, 3]), tf.TensorSpec(f.shape)],
    )
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(module, str(tmp_path), options=options)
    loaded = tf.saved_model.load(str(tmp_path))
    with tf.GradientTape() as tape:
        tape.watch([x, f])
        y = loaded.respond(x, f)
    assert_close((y, *tape.gradient(y, [x, f], dy)), response_and_gradients(*tensors))


def test_two_replicas_share_the_batch(path, tensors, two_replicas):
    def half(context):
        first = context.replica_id_in_sync_group * 2
        x, f, dy = tensors
        y, dx, df = response_and_gradients(x[first : first + 2], f, dy[first : first + 2])
        return y, dx, tf.distribute.get_replica_context().all_reduce("sum", df)

    run = tf.function(lambda: two_replicas.run(lambda: half(tf.distribute.get_replica_context())))
    y, dx, df = (two_replicas.experimental_local_results(t) for t in run())
    together = tf.concat(y, 0), tf.concat(dx, 0), df[1]
    assert_close(together, response_and_gradients(*tensors))


def test_two_runs_are_bit_identical(path, tensors):
    for a, b in zip(response_and_gradients(*tensors), response_and_gradients(*tensors)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_single_pixels_with_strides_stay_within_their_buffers():
    """TensorFlow 2.21's own operation corrupted memory here: the process died within 300 calls."""
    program = """
import tensorflow as tf, pkkd_tf
filters = tf.ones((1, 1, 3, 2))
for _ in range(300):
    with tf.GradientTape() as tape:
        tape.watch(filters)
        response = pkkd_tf.ops.adder_conv2d(tf.ones((3, 12, 8, 3)), filters, (1, 2), "SAME")
    assert (tape.gradient(response, filters) == 0).numpy().all()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_second_derivatives_under_xla():
    """Through loops over taps and chunks of 33 terms, of which two are whole."""
    x, f = tf.random.normal([2, 4, 3, 5]), tf.random.normal([3, 3, 5, 33])

    def second(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            dy = tf.ones([2, 4, 3, 33])
            _, dx, _ = response_and_gradients(x, f, dy, {"padding": "SAME"})
        return outer.gradient(dx, x)

    with use_path("reference"):
        expected = second(x)
    np.testing.assert_allclose(tf.function(second, jit_compile=True)(x), expected, rtol=1e-5)


def test_second_derivatives_are_given_or_refused(path):
    x, f = tf.random.normal([2, 4, 3, 1]), tf.random.normal([1, 1, 1, 5])
    with tf.GradientTape() as outer:
        outer.watch(x)
        _, dx, _ = response_and_gradients(x, f, tf.ones([2, 4, 3, 5]), {})
    if path == "reference":  # of the sum over the filters of clip(F - X, -1, 1)
        expected = -tf.reduce_sum(tf.cast(tf.abs(f[0, 0] - x) < 1, tf.float32), -1, keepdims=True)
        np.testing.assert_array_equal(outer.gradient(dx, x), expected)
        return
    rule = "The compiled input gradient has no derivative: differentiate twice inside of "
    with pytest.raises(NotImplementedError, match=rule):
        outer.gradient(dx, x)


def test_a_path_that_is_set_in_a_block_stays():
    before = list(paths._chosen)
    try:
        with use_path("auto"):
            with use_path("reference"):
                paths.set_path("compiled")
                assert paths.get_path() == "compiled"
            assert paths.get_path() == "auto"
        assert paths.get_path() == "compiled"
    finally:
        paths._chosen[:] = before


def test_blocks_of_two_threads_end_in_any_order():
    first, second = use_path("reference"), use_path("compiled")
    before = paths.get_path()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert paths.get_path() == "compiled"
    second.__exit__(None, None, None)
    assert paths.get_path() == before
