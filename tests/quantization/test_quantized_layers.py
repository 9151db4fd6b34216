"""The layers in rounded numbers, beside the formula in NumPy and their stated gradients."""

import re

import keras
import numpy as np
import numpy_adder
import pytest
import tensorflow as tf

from pkkd_tf import layers, optimizers
from pkkd_tf.quantization import (
    FakeQuantize,
    QuantizedAdderConv2D,
    QuantizedAdderDepthwiseConv2D,
    QuantizedConv2D,
    QuantizedDense,
)

# Arguments beside the number of filters (6), ranges.
ADDERS = [
    ({"bits": 8}, [(-1.0, 1.5)]),
    ({"bits": 4, "strides": 2, "padding": "same"}, [(0.0, 1.5)]),
    ({"bits": 3, "dilation_rate": 2, "use_bias": True}, [(-1.0, 0.75)]),
    ({"bits": 5, "groups": 2, "padding": "same"}, [(-1.5, 1.5)]),
    ({"bits": 4, "filter_groups": [1, 0, 2, 1, 0, 0]}, [(-1.0, 2.0), (0.0, 1.5), (-2.0, 0.5)]),
    ({"bits": 2, "filter_groups": [1, 1, 1, 0, 0, 0], "padding": "same"}, [(0, 1.5), (-1.5, 1.5)]),
]
DEPTHWISE = {"depth_multiplier": 2, "bits": 4, "padding": "same"}


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def adder(arguments, ends, dtype="float64", **more):
    layer = QuantizedAdderConv2D(6, 3, dtype=dtype, **arguments, **more)
    layer.build((None, 7, 8, 4))
    layer.kernel.assign(numbers(layer.kernel.shape, 1) * 1.5)
    layer.range.assign(ends)
    return layer


def rounded(values, low, high, bits):
    """Rounded values, what clipping took away, and which values lie inside."""
    scale = (high - low) / (2**bits - 1)
    zero = np.round(-low / scale)
    low, high = -zero * scale, (2**bits - 1 - zero) * scale
    clipped = np.clip(values, low, high)
    return np.round(clipped / scale) * scale, values - clipped, (low <= values) & (values <= high)


def window(layer):
    return layer.strides, layer.padding.upper(), layer.dilation_rate, layer.groups


@pytest.mark.parametrize("arguments, ends", ADDERS)
def test_response_is_the_formula(path, arguments, ends):
    layer = adder(arguments, ends, "float32" if path == "compiled" else "float64")
    x = numbers((2, 7, 8, 4)).astype(layer.compute_dtype)
    if layer.use_bias:
        layer.bias.assign(numbers(6, 5))
    y, w = np.asarray(layer(x)), np.asarray(layer.kernel)
    for o, group in enumerate(layer.filter_groups):
        f, rest, _ = rounded(w, *ends[group], layer.bits)
        xq, _, _ = rounded(x, *ends[group], layer.bits)
        expected = numpy_adder.forward(xq, f, *window(layer))[..., o]
        expected = expected - np.abs(rest[..., o]).sum() + (layer.bias[o] if layer.use_bias else 0)
        np.testing.assert_allclose(y[..., o], expected, rtol=1e-5)


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("train_range", [False, True])
@pytest.mark.parametrize("arguments, ends", ADDERS)
def test_gradients_are_the_formula(arguments, ends, graph, train_range):
    layer = adder(arguments, ends, train_range=train_range)
    x = numbers((2, 7, 8, 4))
    dy = numbers(layer(x).shape, 2)

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        wanted = [x, layer.kernel.value, layer.range.scale.value]
        return tape.gradient(y, wanted if train_range else wanted[:2], tf.constant(dy))

    got = (tf.function(gradients) if graph else gradients)(tf.constant(x))
    dx, dw, ds = expected_gradients(layer, x, dy, ends)
    np.testing.assert_allclose(got[0], dx, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[1], dw, rtol=1e-9, atol=1e-9)
    if train_range:
        np.testing.assert_allclose(got[2], ds, rtol=1e-9, atol=1e-9)


def expected_gradients(layer, x, dy, ends):
    w = np.asarray(layer.kernel)
    dx, dw, ds = np.zeros_like(x), np.zeros_like(w), np.zeros(len(ends))
    most = 2**layer.bits - 1
    for group, (low, high) in enumerate(ends):
        own = np.equal(layer.filter_groups, group)
        f, rest, _ = rounded(w, low, high, layer.bits)
        xq, _, inside = rounded(x, low, high, layer.bits)
        arguments = xq, f + rest, dy * own, *window(layer), "clipped"
        dxq, dwq = numpy_adder.gradients(*arguments)
        dx += dxq * inside
        dw += dwq
        scale = (high - low) / most
        zero = np.round(-low / scale)
        slope = np.where(inside, xq / scale - x / scale, np.where(x > 0, most - zero, -zero))
        ds[group] = (dxq * slope).sum() / np.sqrt(x[0].size * most)
    return dx, dw, ds


def test_float_numbers_inside_the_range_train_as_in_the_plain_layer():
    """At 8 bits and a fitting range, gradients are those of AdderConv2D but for the rounding."""
    layer = adder({"bits": 8}, [(-8.0, 8.0)])
    plain = layers.AdderConv2D(6, 3, dtype="float64")
    plain.build((None, 7, 8, 4))
    plain.set_weights([layer.kernel])
    x = tf.constant(numbers((2, 7, 8, 4)))
    found = []
    for each in (layer, plain):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(each(x) * numbers((2, 5, 6, 6), 2))
        found.append(tape.gradient(y, each.kernel.value))
    assert np.abs(found[0] - found[1]).max() < 0.03 * np.abs(found[1]).max()


def test_filters_beyond_the_range_pull_inputs_by_one():
    """Their distance from the end of the range says nothing: the float layer's gradient stays."""
    layer = adder({"bits": 4, "padding": "same"}, [(0.0, 1.5)])
    layer.kernel.assign(np.where(numbers(layer.kernel.shape) > 0, 9.0, -9.0))
    plain = layers.AdderConv2D(6, 3, padding="same", dtype="float64")
    plain.build((None, 7, 8, 4))
    plain.set_weights([layer.kernel])
    x = tf.constant(np.abs(numbers((2, 7, 8, 4))) % 1.5)
    found = []
    for each in (layer, plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(each(x) * numbers((2, 7, 8, 6), 2))
        found.append(tape.gradient(y, x))
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)
    assert np.abs(found[0]).max() > 1


def test_formats_are_equal():
    arguments, ends = ADDERS[4]
    last = adder(arguments, ends, use_bias=True)
    first = QuantizedAdderConv2D(
        6, 3, dtype="float64", data_format="channels_first", use_bias=True, **arguments
    )
    first.build((None, 4, 7, 8))
    first.set_weights(last.get_weights())
    x = numbers((2, 7, 8, 4))
    y = np.transpose(first(np.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))
    np.testing.assert_allclose(y, last(x), rtol=1e-12)


def test_depthwise_response_is_the_formula(path):
    layer = QuantizedAdderDepthwiseConv2D(3, **DEPTHWISE)
    x = numbers((2, 7, 8, 4)).astype("f")
    layer.build(x.shape)
    layer.range.assign([(-1.0, 1.5)])
    f, rest, _ = rounded(np.asarray(layer.kernel).reshape(3, 3, 1, 8), -1.0, 1.5, 4)
    expected = numpy_adder.forward(rounded(x, -1.0, 1.5, 4)[0], f, (1, 1), "SAME", (1, 1), 4)
    expected -= np.abs(rest).sum((0, 1, 2))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)


@pytest.mark.parametrize("bits", [3, 8])
def test_multiplying_layers_round_their_weights(bits):
    for layer, shape in (
        (QuantizedConv2D(6, 3, bits=bits), (2, 7, 8, 4)),
        (QuantizedDense(6, bits=bits, activation="relu"), (2, 4)),
    ):
        x = numbers(shape).astype("f")
        y = layer(x)
        layer.bias.assign(numbers(6, 3))
        y = layer(x)
        w = np.asarray(layer.kernel)
        scale = np.abs(w).reshape(-1, 6).max(0) / (2 ** (bits - 1) - 1)
        plain = (
            type(layer)
            .__bases__[0]
            .from_config({k: v for k, v in layer.get_config().items() if k != "bits"})
        )
        plain.build(shape)
        plain.set_weights([np.round(w / scale) * scale, layer.bias])
        np.testing.assert_allclose(y, plain(x), rtol=1e-5, atol=1e-6)


def test_tensors_are_rounded():
    layer = FakeQuantize(bits=4)
    layer.build((None, 3))
    layer.range.assign([(0.0, 7.5)])
    np.testing.assert_array_equal(layer(np.array([[-1.0, 0.3, 9.0]])), [[0.0, 0.5, 7.5]])
    assert layer.range.ends() == [(0.0, 7.5)] and not layer.trainable_variables


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bits(path, policy):
    """Scales stay float32; numbers of 16 bits hold the levels to their own precision."""
    layer = adder(*ADDERS[4], dtype=policy)
    exact = adder(*ADDERS[4], dtype="float32")
    x = numbers((2, 7, 8, 4)).astype("f")
    y = layer(x)
    assert y.dtype == layer.compute_dtype and layer.range.scale.dtype == "float32"
    np.testing.assert_allclose(tf.cast(y, "float32"), exact(x), rtol=0.03, atol=0.5)


def network(train_range=True):
    inputs = keras.Input((7, 8, 4))
    x = QuantizedConv2D(4, 1, name="conv")(FakeQuantize(name="images")(inputs))
    for name, arguments in (("adder", ADDERS[4][0]), ("same", ADDERS[1][0])):
        x = QuantizedAdderConv2D(6, 3, train_range=train_range, name=name, **arguments)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = QuantizedAdderDepthwiseConv2D(3, name="depthwise", **DEPTHWISE)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, QuantizedDense(3, name="dense")(keras.layers.Flatten()(x)))


@pytest.mark.slow
@pytest.mark.parametrize("train_range", [False, True])
def test_fit_and_files(train_range, tmp_path):
    model = network(train_range)
    x, labels = numbers((32, 7, 8, 4)).astype("f"), np.arange(32) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.AdderSGD(0.05), loss)
    before = np.array(model.get_layer("adder").range.scale)
    losses = model.fit(x, labels, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    after = np.array(model.get_layer("adder").range.scale)
    assert (after != before).all() if train_range else (after == before).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_layer("adder").filter_groups == [1, 0, 2, 1, 0, 0]
    marked = [layers.is_adder_filter(v) for v in loaded.get_layer("adder").trainable_variables]
    assert marked == [True, False] if train_range else [True]


def test_scales_stay_positive():
    layer = adder(*ADDERS[1], train_range=True)
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(layer.trainable_variables)
    scale = layer.range.scale
    optimizer.apply([tf.zeros_like(layer.kernel.value), tf.constant([1e6], scale.dtype)])
    assert float(layer.range.scale[0]) == pytest.approx(1e-8)
    assert np.isfinite(layer(numbers((1, 7, 8, 4)))).all()


@pytest.mark.parametrize(
    "groups, channel_groups, message",
    [
        ([0, 1], 1, "name a group for each filter.*filter_groups=[0, 1], filters=6"),
        ([0, 2, 0, 0, 0, 0], 1, "counted from 0 without gaps.*filters=6"),
        ([0, 1, 0, 1, 0, 1], 2, "need one group of channels.*groups=2"),
    ],
)
def test_filter_groups_that_cannot_be(groups, channel_groups, message):
    parts = [re.escape(part) for part in message.split(".*")]
    with pytest.raises(ValueError, match=".*".join(parts)):
        QuantizedAdderConv2D(6, 3, groups=channel_groups, filter_groups=groups)


@pytest.mark.parametrize(
    "make",
    [
        lambda bits: QuantizedAdderConv2D(6, 3, bits=bits),
        lambda bits: QuantizedAdderDepthwiseConv2D(3, bits=bits),
        lambda bits: QuantizedConv2D(6, 3, bits=bits),
        lambda bits: QuantizedDense(6, bits=bits),
        lambda bits: FakeQuantize(bits=bits),
    ],
)
def test_bits_out_of_range(make):
    with pytest.raises(ValueError, match="integer from 2 to 8. Received: bits=16"):
        make(16)


def test_number_of_ranges():
    with pytest.raises(ValueError, match="range for each scale. Received: 2 ranges, 1 scales"):
        adder({"bits": 4}, [(0, 1), (0, 2)])
