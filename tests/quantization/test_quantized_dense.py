"""Dense adders and depthwise products in rounded numbers, beside the layers they are forms of."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from export.tflite import int8
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D, AdderDense
from pkkd_tf.quantization import (
    QuantizedAdderConv2D,
    QuantizedAdderDense,
    QuantizedConv2D,
    QuantizedDepthwiseConv2D,
)
from tests import delegate_library

ENDS = [(-1.0, 1.5)]


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def pair(bits=5, **options):
    """A dense layer, and the convolution of one pixel that it is."""
    options |= {"bits": bits, "use_bias": True, "train_range": True, "dtype": "float64"}
    dense = QuantizedAdderDense(4, **options)
    conv = QuantizedAdderConv2D(4, 1, **options)
    for layer, shape in ((dense, (None, 6)), (conv, (None, 1, 1, 6))):
        layer.build(shape)
        layer.kernel.assign(numbers(layer.kernel.shape, 1))
        layer.bias.assign(numbers(4, 2))
        layer.range.assign(ENDS)
    return dense, conv


def respond(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    weights = [v.value for v in layer.trainable_variables]
    return [y, *tape.gradient(y, [x, *weights], tf.reshape(upstream, y.shape))]


@pytest.mark.parametrize("input_gradient", ["clipped", "sign"])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_a_dense_layer_is_a_convolution_of_one_pixel(shape, input_gradient):
    dense, conv = pair(input_gradient=input_gradient)
    x, upstream = tf.constant(numbers(shape)), tf.constant(numbers((*shape[:-1], 4), 3))
    found = respond(dense, x, upstream)
    expected = respond(conv, tf.reshape(x, (-1, 1, 1, 6)), upstream)
    assert found[0].shape == (*shape[:-1], 4) and len(found) == len(expected) == 5
    rows = np.prod(shape[1:-1])  # of one image: the range's gradient has a factor of its size
    for ours, theirs in zip(found, [*expected[:4], expected[4] / np.sqrt(rows)]):
        np.testing.assert_allclose(ours, tf.reshape(theirs, ours.shape), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("bits", [8, 3])
def test_a_depthwise_layer_is_a_grouped_convolution(bits, padding):
    options = {"padding": padding, "strides": 2, "bits": bits, "dtype": "float64"}
    layer = QuantizedDepthwiseConv2D(3, depth_multiplier=2, activation="relu", **options)
    grouped = QuantizedConv2D(6, 3, groups=3, activation="relu", **options)
    x = numbers((2, 9, 8, 3))
    layer(x), grouped(x)
    layer.kernel.assign(numbers(layer.kernel.shape, 1))
    layer.bias.assign(numbers(6, 2))
    grouped.kernel.assign(np.reshape(layer.kernel, (3, 3, 1, 6)))
    grouped.bias.assign(layer.bias)
    np.testing.assert_allclose(layer(x), grouped(x), rtol=1e-9, atol=1e-12)


def test_a_layer_without_a_shape_is_saved(tmp_path):
    model = keras.Sequential([QuantizedAdderDense(3)])
    model.save(tmp_path / "unbuilt.keras")
    (layer,) = keras.models.load_model(tmp_path / "unbuilt.keras").layers
    assert not layer.built and layer.units == 3


def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = layers.DepthwiseConv2D(3, depth_multiplier=2, name="products")(x)
    h = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(h))
    h = AdderConv2D(6, 3, strides=2, name="adder")(h)
    h = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.9)(h))
    h = AdderDense(8, name="dense")(layers.Flatten()(h))
    model = keras.Model(x, layers.BatchNormalization(momentum=0.9, name="last")(h))
    for _ in range(40):
        model(batch(), training=True)
    return model


def batch():
    return numbers((64, 8, 8, 3)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [5, 8])
def test_whole_networks_and_their_files(bits, tmp_path):
    model = network()
    quantized = quantization.quantize_model(model, batch(), bits)
    kinds = {name: type(quantized.get_layer(name)) for name in ("products", "dense")}
    assert kinds == {"products": QuantizedDepthwiseConv2D, "dense": QuantizedAdderDense}
    found = quantization.ranges(quantized)["dense"]
    assert found["ranges"] == [quantization.tensor_ranges(quantized)["relu"]]
    assert found["filter_groups"] == [0] * 8 and found["bits"] == bits
    exact = np.asarray(model(batch()))
    error = np.sqrt(np.mean((quantized(batch()) - exact) ** 2) / np.mean(exact**2))
    assert error < (0.03 if bits == 8 else 0.2)
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.models.load_model(tmp_path / "quantized.keras")
    np.testing.assert_allclose(loaded(batch()), quantized(batch()), atol=1e-5)
    plain = quantization.strip_quantization(loaded)
    assert type(plain.get_layer("dense")) is AdderDense
    np.testing.assert_allclose(plain(batch()), exact, rtol=1e-4, atol=1e-4)
    _, report = int8.make(quantized, batch(), delegate_library.path())
    assert report["difference"] < (0.03 if bits == 8 else 0.08)


@pytest.mark.slow
def test_both_learn():
    model = quantization.quantize_model(network(), batch(), 4, train_ranges=True)
    before = [np.array(v) for v in model.trainable_variables]
    model.compile("sgd", "mse")
    model.fit(batch(), numbers((64, 8)), epochs=1, verbose=0)
    moved = {v.path for v, w in zip(model.trainable_variables, before) if np.any(v != w)}
    assert {"dense/kernel", "dense/scale", "products/kernel"} <= moved
