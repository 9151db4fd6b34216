"""The compiled TensorFlow operations: eagerly, in a graph, with unknown shapes, bad arguments."""

import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.ops import compiled, reference
from pkkd_tf.ops.geometry import make_geometry
from tests import numpy_adder
from tests.custom_ops import native

GEOMETRIES = [
    (1, "SAME", 1, 1),
    (2, "VALID", (1, 2), 2),
    ((2, 3), ((1, 0), (2, 1)), 1, 4),
]
UNKNOWN = [tf.TensorSpec([None] * 4), tf.TensorSpec([None] * 4), tf.TensorSpec(None)]


def tensors(groups, dtype=tf.float32):
    x = tf.random.normal([2, 9, 8, 8], dtype=dtype)
    return x, tf.random.normal([3, 3, 8 // groups, 12], dtype=dtype)


@pytest.mark.parametrize("arguments", GEOMETRIES)
@pytest.mark.parametrize("dtype", compiled.DTYPES)
def test_agrees_with_stock_operations(operations, arguments, dtype):
    geometry = make_geometry(*arguments)
    x, f = tensors(geometry.groups, dtype)
    y = compiled.forward(x, f, geometry)
    assert y.dtype == dtype
    rounding = 2e-6 if dtype == tf.float32 else 2**-7 if dtype == tf.bfloat16 else 2**-10
    np.testing.assert_allclose(
        tf.cast(y, tf.float32),
        tf.cast(reference.forward(x, f, geometry), tf.float32),
        rtol=rounding,
    )
    dy = tf.cast(tf.random.normal(y.shape), dtype)
    for mode in ("clipped", "sign"):
        dx = compiled.input_gradient(x, f, dy, geometry, mode)
        expected = reference.input_gradient(x, f, dy, geometry, mode)
        assert dx.dtype == dtype
        np.testing.assert_allclose(
            tf.cast(dx, tf.float32), tf.cast(expected, tf.float32), rtol=rounding, atol=1e-5
        )


@pytest.mark.parametrize("arguments", GEOMETRIES)
def test_graph_with_unknown_shapes(operations, arguments):
    geometry = make_geometry(*arguments)
    x, f = tensors(geometry.groups)

    @tf.function(input_signature=UNKNOWN)
    def both(x, f, dy):
        y = compiled.forward(x, f, geometry)
        dx = compiled.input_gradient(x, f, dy, geometry, "clipped")
        assert y.shape.as_list() == dx.shape.as_list() == [None] * 4
        return y, dx

    dy = tf.ones_like(compiled.forward(x, f, geometry))
    y, dx = both(x, f, dy)
    (st, dil), pad = (geometry.strides, geometry.dilations), geometry.padding
    expected = numpy_adder.forward(x.numpy(), f.numpy(), st, pad, dil, geometry.groups)
    np.testing.assert_allclose(y, expected, rtol=2e-6)
    np.testing.assert_array_equal(dx, compiled.input_gradient(x, f, dy, geometry, "clipped"))


def test_static_shapes(operations):
    geometry = make_geometry((2, 1), ((1, 2), (0, 3)), 1, 1)

    @tf.function(
        input_signature=[tf.TensorSpec([None, 9, None, 8]), tf.TensorSpec([3, 3, None, 5])]
    )
    def forward(x, f):
        return compiled.forward(x, f, geometry)

    assert forward.get_concrete_function().output_shapes.as_list() == [None, 5, None, 5]


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(operations, batch):
    geometry = make_geometry(1, "SAME", 1, 1)
    x, f = tf.ones([batch, 4, 4, 3]), tf.zeros([3, 3, 3, 2])
    y = compiled.forward(x, f, geometry)
    assert y.shape == [batch, 4, 4, 2]
    dx = compiled.input_gradient(x, f, y, geometry, "clipped")
    assert dx.shape == x.shape and np.isfinite(dx).all()


@pytest.mark.parametrize(
    "attributes,text",
    [
        (
            {"strides": [0, 1]},
            "`strides` must be a pair of positive integers. Received: strides=(0, 1)",
        ),
        ({"dilations": [1]}, "`dilations` must be a pair of positive integers. Received: "),
        (
            {"padding": "EXPLICIT", "explicit_paddings": [0, 0, -1, 0]},
            'padding "EXPLICIT", and empty otherwise. Received: padding=EXPLICIT, '
            "explicit_paddings=(0, 0, -1, 0)",
        ),
        (
            {"explicit_paddings": [1, 1, 1, 1]},
            "Received: padding=SAME, explicit_paddings=(1, 1, 1, 1)",
        ),
        (
            {"groups": 3},
            "The number of input channels must equal `filters`' third dimension times `groups`. "
            "Received: x.shape=(2, 9, 8, 8), filters.shape=(3, 3, 8, 12), groups=3",
        ),
        (
            {"padding": "VALID", "dilations": [5, 1]},
            "The window must fit into the padded image at least once. Received: "
            "x.shape=(2, 9, 8, 8), filters.shape=(3, 3, 8, 12), padding=VALID, dilations=(5, 1)",
        ),
    ],
)
def test_bad_attributes(operations, attributes, text):
    x, f = tensors(1)
    arguments = {"strides": [1, 1], "padding": "SAME", **attributes}
    with pytest.raises(tf.errors.InvalidArgumentError) as eager:
        operations.pkkd_adder_conv2d(x=x, filters=f, **arguments)
    assert text in str(eager.value)
    with pytest.raises(ValueError) as graph, tf.Graph().as_default():
        operations.pkkd_adder_conv2d(
            x=tf.zeros([2, 9, 8, 8]), filters=tf.zeros([3, 3, 8, 12]), **arguments
        )
    assert text in str(graph.value)


@pytest.mark.parametrize(
    "padding, dilations",
    [("SAME", 2**31 - 1), (((2**31 - 1,) * 2,) * 2, 1)],
    ids=["dilations", "padding"],
)
def test_sizes_beyond_every_memory(operations, padding, dilations):
    geometry = make_geometry(1, padding, dilations, 1)
    x, f = tf.ones([1, 4, 4, 8]), tf.ones([3, 3, 8, 5])
    text = (
        "A padded image and the response must hold at most 281474976710656 numbers. Received: "
        "x.shape=(1, 4, 4, 8), filters.shape=(3, 3, 8, 5), padding="
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as eager:
        compiled.forward(x, f, geometry)
    assert text in str(eager.value)
    with pytest.raises(ValueError) as graph, tf.Graph().as_default():
        compiled.forward(tf.ones(x.shape), tf.ones(f.shape), geometry)
    assert text in str(graph.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "x_shape, f_shape",
    [([None, 2**58, 1, 8], [3, 3, 8, 5]), ([None, 4, 4, 8], [3, 2**40, 8, 5])],
    ids=["image", "window"],
)
def test_pixels_whose_number_would_overflow(operations, x_shape, f_shape):
    geometry = make_geometry(1, "SAME", 2**31 - 1, 1)
    signature = [tf.TensorSpec(x_shape), tf.TensorSpec(f_shape)]
    graph = tf.function(lambda x, f: compiled.forward(x, f, geometry), input_signature=signature)
    text = "must be at most 281474976710656 pixels high and wide. Received: x.shape=(?, "
    with pytest.raises(ValueError) as error:
        graph.get_concrete_function()
    assert text in str(error.value)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_buffers_that_no_memory_holds(operations, groups, dtype):
    """A padded image of 2^48 bytes and more; a batch of four gives the threads their share."""
    geometry = make_geometry(1, "SAME", 3 * 2**19, groups)
    x, f = tf.ones([4, 4, 4, 8], dtype), tf.ones([3, 3, 8 // groups, 8], dtype)
    text = (
        "There must be memory for the padded image and the filters as the kernel lays them out. "
        f"Received: std::bad_alloc, x.shape=(4, 4, 4, 8), filters.shape=(3, 3, {8 // groups}, 8), "
        "dilations=(1572864, 1572864), response shape=(4, 4, 4, 8)"
    )
    with pytest.raises(tf.errors.ResourceExhaustedError) as forward:
        compiled.forward(x, f, geometry)
    assert text in str(forward.value)
    with pytest.raises(tf.errors.ResourceExhaustedError) as backward:
        compiled.input_gradient(x, f, x, geometry, "clipped")
    assert text in str(backward.value)


@pytest.mark.parametrize(
    "x_shape,f_shape,groups,text",
    [
        (
            [2, 9, 8],
            [3, 3, 8, 12],
            1,
            "`x` must have 4 dimensions (batch, height, width, channels) and `filters` 4 (height, "
            "width, channels / groups, outputs). Received: x.shape=(2, 9, 8), "
            "filters.shape=(3, 3, 8, 12)",
        ),
        (
            [2, 9, 8, 8],
            [3, 3, 4, 5],
            2,
            "The number of output channels must be a positive multiple of `groups`. Received: "
            "x.shape=(2, 9, 8, 8), filters.shape=(3, 3, 4, 5), groups=2",
        ),
        ([2, 9, 8, 0], [3, 3, 0, 5], 1, "`filters`' third dimension times `groups`. Received: "),
    ],
)
def test_bad_shapes(operations, x_shape, f_shape, groups, text):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        operations.pkkd_adder_conv2d(
            x=tf.zeros(x_shape),
            filters=tf.zeros(f_shape),
            strides=[1, 1],
            padding="SAME",
            groups=groups,
        )
    assert text in str(error.value)


def test_bad_gradient(operations):
    x, f = tensors(1)
    arguments = {"strides": [1, 1], "padding": "SAME"}
    text = (
        "`gradient` must have the shape of the response. Received: gradient.shape=(2, 9, 8, 8), "
        "response shape=(2, 9, 8, 12)"
    )
    with pytest.raises(tf.errors.InvalidArgumentError) as eager:
        operations.pkkd_adder_conv2d_input_gradient(x=x, filters=f, gradient=x, **arguments)
    assert text in str(eager.value)
    with pytest.raises(ValueError) as graph, tf.Graph().as_default():
        x, f = tf.zeros([2, 9, 8, 8]), tf.zeros([3, 3, 8, 12])
        operations.pkkd_adder_conv2d_input_gradient(x=x, filters=f, gradient=x, **arguments)
    assert text in str(graph.value)


def test_bad_instruction_set(operations, monkeypatch):
    x, f = tensors(1)
    monkeypatch.setenv("PKKD_TF_CPU", "mmx")
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received: PKKD_TF_CPU=mmx"):
        operations.pkkd_adder_conv2d(x=x, filters=f, strides=[3, 7], padding="SAME")


def test_instruction_set_is_told(operations, monkeypatch):
    assert compiled.instruction_set() == native.instruction_sets()[-1]
    monkeypatch.setenv("PKKD_TF_CPU", "baseline")
    assert compiled.instruction_set() == "baseline"


@pytest.mark.parametrize("mode", ["clipped", "sign"])
def test_saved_model_holds_the_operation_and_trains(operations, tmp_path, mode):
    class Response(tf.Module):
        def __init__(self):
            self.filters = tf.Variable(tf.random.normal([3, 3, 2, 8]))

        @tf.function(input_signature=[tf.TensorSpec([None, 7, 7, 8])])
        def __call__(self, x):
            geometry = make_geometry(2, ((1, 1), (1, 1)), 1, 4)
            return compiled.forward(x, self.filters, geometry, mode)

    module, x = Response(), tf.random.normal([2, 7, 7, 8])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = loaded(x)
        loss = tf.reduce_sum(y * y)
    np.testing.assert_array_equal(y, module(x))
    dx, df = tape.gradient(loss, [x, loaded.filters])
    geometry = ((2, 2), ((1, 1), (1, 1)), (1, 1), 4)
    expected = numpy_adder.gradients(
        x.numpy(), loaded.filters.numpy(), 2 * y.numpy(), *geometry, mode
    )
    np.testing.assert_allclose(dx, expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(df, expected[1], rtol=1e-5, atol=1e-3)
