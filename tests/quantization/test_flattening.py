"""Networks inside of networks, and layers that were called elsewhere, in rounded numbers."""

import keras
import numpy as np
import pytest
from keras import layers

from export.tflite import int8
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.quantization.flattening import flattened
from tests import delegate_library
from tests.networks import calibrated, images


def block(shape, filters, name, sequential=False):
    parts = [
        AdderConv2D(filters, 3, name="adder"),
        layers.BatchNormalization(name="norm", momentum=0.9),
        layers.ReLU(name="relu"),
    ]
    if sequential:
        return keras.Sequential([keras.Input(shape), *parts], name=name)
    x = outputs = keras.Input(shape)
    for part in parts:
        outputs = part(outputs)
    return keras.Model(x, outputs, name=name)


def transfer():
    """Normalized images, a backbone of two networks, one in it, and a head."""
    keras.utils.set_random_seed(0)
    x = keras.Input((9, 9, 3), name="image")
    first = block((7, 7, 4), 5, "first")
    middle = keras.Input((9, 9, 3))
    h = layers.Conv2D(4, 3, name="stem")(middle)
    backbone = keras.Model(middle, block((5, 5, 5), 6, "second", True)(first(h)), name="backbone")
    scaled = layers.Normalization(name="scaled", mean=[0.1, 0.2, 0.3], variance=[1, 2, 3])(x)
    h = layers.Flatten(name="flat")(backbone(scaled))
    return calibrated(keras.Model(x, layers.Dense(4, name="head")(h), name="transfer"))


NAMES = ["image", "scaled", "stem", "adder", "norm", "relu"]
NAMES += ["second_adder", "second_norm", "second_relu", "flat", "head"]


def test_a_flat_network_computes_the_same():
    model = transfer()
    flat, batch = flattened(model), images(model, 4)
    assert [layer.name for layer in flat.layers] == NAMES and flat.name == "transfer"
    np.testing.assert_allclose(flat(batch), model(batch), rtol=1e-5, atol=1e-5)
    flat.get_layer("adder").kernel.assign(flat.get_layer("adder").kernel + 1.0)
    assert np.abs(flat(batch) - model(batch)).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("bits", (8, 5))
def test_networks_inside_of_networks_are_quantized(bits, tmp_path):
    model = transfer()
    batch = images(model, 32)
    quantized = quantization.quantize_model(model, batch, bits)
    assert list(quantization.ranges(quantized)) == ["adder", "second_adder"]
    exact = np.asarray(model(batch))
    error = np.sqrt(np.mean((quantized(batch) - exact) ** 2) / np.mean(exact**2))
    assert error < (0.05 if bits == 8 else 0.2)
    _, report = int8.make(quantized, batch, delegate_library.path())
    assert report["difference"] < (0.01 if bits == 8 else 0.03)
    plain = quantization.strip_quantization(quantized)
    np.testing.assert_allclose(plain(batch), exact, rtol=1e-4, atol=1e-4)


def test_layers_that_were_called_elsewhere():
    """As those of a network that was built for other images first."""
    model = calibrated(block((9, 9, 3), 5, "model"))
    x = outputs = keras.Input((7, 7, 3))
    for layer in model.layers[1:]:
        outputs = layer(outputs)
    again = keras.Model(x, outputs)
    batch = images(again, 16)
    exact = np.asarray(again(batch))
    quantized = quantization.quantize_model(again, batch)
    assert quantized.output_shape == (None, 5, 5, 5)
    assert np.abs(quantized(batch) - exact).mean() < 0.05 * np.abs(exact).mean()


def test_what_is_frozen_stays_frozen():
    model = transfer()
    model.get_layer("backbone").trainable = False
    flat = flattened(model)
    assert {w.path for w in flat.trainable_variables} == {"head/kernel", "head/bias"}


def test_networks_that_cannot_be_read():
    x = keras.Input((8, 8, 3))
    inner = keras.Model(x, layers.Conv2D(3, 1)(x) + x, name="inner")
    y = keras.Input((8, 8, 3))
    outer = keras.Model(y, inner(y))
    with pytest.raises(ValueError, match="must consist of layers: .* Received: operations="):
        quantization.quantize_model(outer, images(outer, 4))
    shared = block((8, 8, 3), 3, "shared")
    h = keras.Input((8, 8, 3))
    twice = keras.Model(h, layers.Concatenate()([shared(h), shared(h)]))
    with pytest.raises(ValueError, match="called once. Received: layer='adder', called 2 times"):
        quantization.quantize_model(twice, images(twice, 4))
