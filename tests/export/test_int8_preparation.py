"""Batch normalizations and ReLU6 that int8 has in other forms; networks that bring their own."""

import keras
import numpy as np
import pytest
from keras import layers

from export.energy.keras_records import keras_records
from export.energy.tflite_records import tflite_records
from export.program import ExportError
from export.tflite import Network, int8
from export.tflite.converter import convert
from export.tflite.graph import Graph, get_options
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.networks import calibrated, images


def norm(x):
    return layers.BatchNormalization(momentum=0.9)(x)


def adder(x, filters=8, **options):
    return AdderConv2D(filters, 3, padding="same", use_bias=False, **options)(x)


def network(build, shape=(8, 8, 3)):
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    return calibrated(keras.Model(x, layers.Flatten()(build(x))))


def quantized(model, batch=None, bits=None):
    batch = images(model, 32) if batch is None else batch
    return int8.make(model, batch, delegate_library.path(), bits)


def names(data):
    graph = Graph(data)
    return [graph.name(operator) for operator in graph.operators]


def capped(x):
    """A ReLU6 that cuts off a large part of what reaches it."""
    h = layers.ReLU(6.0)(layers.Rescaling(4.0)(norm(adder(x))))
    return adder(h, 4)


def preactivated(x):
    """A stream of sums that normalizations read; nothing can take these in."""
    h = layers.Conv2D(8, 3, padding="same")(x)
    for _ in range(2):
        h = layers.Add()([h, adder(layers.ReLU()(norm(adder(layers.ReLU()(norm(h))))))])
    return adder(layers.ReLU()(norm(h)), 4)


FEW_BITS = pytest.param(5, marks=pytest.mark.slow)


@pytest.mark.parametrize("bits", (8, FEW_BITS))
def test_relu6_is_a_part_of_the_adder_operator(bits):
    model = network(capped)
    data, report = quantized(model, bits=bits)
    assert names(data) == ["AdderConv2D", "AdderConv2D", "RESHAPE"] or bits < 8
    assert "ADD" not in names(data) and "RELU6" not in names(data)
    assert report["difference"] < (0.02 if bits == 8 else 0.2)
    graph = Graph(data)
    first = graph.named("AdderConv2D")[0]
    (step,), (zero,) = graph.scale(first.outputs[0])
    assert 5.0 < (get_options(first)["high"] - zero) * step < 6.0 + step / 2


def test_relu6_of_float_files_follows_the_operator():
    model = network(capped)
    data = convert(model, "custom_op")
    assert names(data) == ["AdderConv2D", "RELU6", "AdderConv2D", "RESHAPE"]
    batch = images(model, 4, seed=1)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-3)
    (relu6,) = [layer for layer in model.layers if isinstance(layer, layers.ReLU)]
    inner = keras.Model(model.input, relu6.output)(batch)
    assert 0.02 < np.mean(inner == 6.0) < 0.5


@pytest.mark.parametrize("operands", ("x - y", "x * y"))
def test_relu6_of_what_no_adder_takes_in_stays_inside_of_it(operands):
    """Else int8 would round what is larger than 6 too."""
    join = layers.Subtract() if operands == "x - y" else layers.Multiply()
    model = network(lambda x: layers.ReLU(6.0)(join([x, norm(adder(x, 3))])))
    data = convert(model, "custom_op")
    assert names(data) == ["AdderConv2D", "SUB" if operands == "x - y" else "MUL", "RESHAPE"]
    batch = 4 * images(model, 32)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-3)
    data, report = quantized(model, batch)
    assert "RELU6" not in names(data) and report["difference"] < 0.02


def test_ranges_beyond_six_are_cut_off_there():
    """As fine-tuning may leave them."""
    model = network(capped)
    trained = quantization.quantize_model(model, images(model, 32))
    adders = [name for name in quantization.ranges(trained)]
    for name in (adders[1], next(n for n in quantization.tensor_ranges(trained) if "re_lu" in n)):
        layer = trained.get_layer(name if name in adders else f"{name}_quantize")
        layer.range.assign([(0.0, 9.0)])
    data, report = quantized(trained)
    graph = Graph(data)
    options = get_options(graph.named("AdderConv2D")[0])
    assert options["high"] == -128 + round(6 / (9 / 255))
    assert report["difference"] < 0.03


@pytest.mark.slow
def test_a_normalization_of_its_own_is_rounded_once():
    model = network(preactivated)
    data, report = quantized(model)
    found = names(data)
    assert found.count("DEPTHWISE_CONV_2D") == 3 and "MUL" not in found
    assert report["difference"] < 0.06
    batch = images(model, 4, seed=1)
    (step,), (zero,) = Graph(data).scale(Graph(data).subgraph.inputs[0])
    integers = np.clip(np.rint(batch / step) + zero, -128, 127).astype(np.int8)
    output = Network(data, delegate_library.path())(integers)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(integers))


@pytest.mark.slow
def test_it_costs_no_multiplications_as_in_the_network():
    model = network(preactivated)
    counts = [
        sum(record.multiplications + record.additions for record in records)
        for records in (keras_records(model), tflite_records(quantized(model)[0]))
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("bits", (8, FEW_BITS))
@pytest.mark.parametrize("build", [capped, pytest.param(preactivated, marks=pytest.mark.slow)])
def test_a_file_rounds_as_the_fine_tuned_network_does(build, bits):
    model = network(build)
    trained = quantization.quantize_model(model, images(model, 32), bits)
    _, report = quantized(trained)
    assert report["difference"] < (0.02 if bits == 8 else 0.04)


def test_sums_that_are_small_beside_their_terms():
    """XNNPACK has no convolution whose output's step is less than 2**-8 of the products'."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    sums = layers.Conv2D(4, 1, name="sums")(x)
    model = keras.Model(x, layers.Flatten()(adder(layers.ReLU()(sums), 4)))
    batch, conv = images(model, 32), model.get_layer("sums")
    highest = np.max(keras.Model(x, sums)(batch), (0, 1, 2))
    conv.bias.assign(-0.99999 * highest)
    graph = Graph(quantized(model, batch)[0])
    (operator,) = graph.named("CONV_2D")
    steps = [np.max(graph.scale(t)[0]) for t in (*operator.inputs[:2], operator.outputs[0])]
    np.testing.assert_allclose(steps[0] * steps[1] / steps[2], 2**7, rtol=1e-5)


def adapted(x):
    layer = layers.Normalization()
    layer.adapt(100 + 50 * np.random.default_rng(0).normal(size=(64, 8, 8, 3)))
    return adder(layer(x), 4)


def test_an_adapted_normalization_is_kept():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Flatten()(adapted(x)))
    batch = (100 + 50 * np.random.default_rng(1).normal(size=(32, 8, 8, 3))).astype("float32")
    output = Network(convert(model, "custom_op"), delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4)
    trained = quantization.quantize_model(model, batch)
    for other in (trained, quantization.strip_quantization(trained)):
        np.testing.assert_allclose(other(batch), model(batch), rtol=0.2, atol=0.5)
    data, report = quantized(model, batch)
    assert report["difference"] < 0.02
    assert names(data)[0] == "DEPTHWISE_CONV_2D" and {"SUB", "MUL"}.isdisjoint(names(data))
    assert quantized(trained, batch)[1]["difference"] < 0.005


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_calibration_images_of_other_types_are_taken(dtype):
    model = network(lambda x: adder(x, 4))
    batch = np.rint(8 * images(model, 16))
    assert quantized(model, batch.astype(dtype))[0] == quantized(model, batch)[0]


def test_calibration_images_must_be_numbers():
    model = network(lambda x: adder(x, 4))
    with pytest.raises(ExportError, match="must be real numbers. Received: dtype=complex64"):
        quantized(model, images(model, 4).astype("complex64"))


def test_rounded_networks_without_adders_are_refused():
    model = network(lambda x: layers.ReLU()(norm(layers.Conv2D(4, 3)(x))))
    trained = quantization.quantize_model(model, images(model, 8))
    with pytest.raises(ExportError, match="must have adder layers, else export what .*layers=0"):
        quantized(trained)
