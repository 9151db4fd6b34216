"""Layers of segmentation networks: dilated convolutions and repeated pixels, in every format."""

import keras
import numpy as np
import pytest
from keras import layers

from export.energy.keras_records import keras_records
from export.energy.tflite_records import tflite_records
from export.tflite import Network, int8
from export.tflite.converter import FLOAT_FORMATS, convert
from export.tflite.graph import Graph
from pkkd_tf import quantization
from pkkd_tf.layers import AdderDense
from tests import delegate_library
from tests.export.test_int8_preparation import adder, names, network, norm, quantized
from tests.networks import images

DILATED = {
    "same": {"padding": "same", "dilation_rate": 2},
    "valid": {"dilation_rate": (2, 1)},
    "odd": {"padding": "same", "dilation_rate": (3, 2), "kernel_size": (2, 3)},
    "grouped": {"padding": "same", "dilation_rate": 2, "groups": 3},
}


def dilated(kind, name, activation=None):
    options = {"kernel_size": 3, **DILATED[name], "activation": activation}
    if kind is layers.Conv2D:
        options["filters"] = 6
    elif options.pop("groups", 1) > 1:
        options["depth_multiplier"] = 2
    return kind(**options)


def thorough(*values):
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


@pytest.mark.parametrize("name", ["odd", *thorough("same", "valid", "grouped")])
@pytest.mark.parametrize("kind", [layers.Conv2D, *thorough(layers.DepthwiseConv2D)])
def test_dilated_convolutions_are_one_operator(kind, name):
    model = network(lambda x: adder(layers.ReLU()(norm(dilated(kind, name)(x))), 4), (11, 9, 3))
    batch = images(model, 4, seed=1)
    for format in FLOAT_FORMATS:
        data = convert(model, format)
        library = None if format == "portable" else delegate_library.path()
        assert not [n for n in names(data) if "SPACE" in n and "BATCH" in n]
        np.testing.assert_allclose(
            Network(data, library)(batch), model(batch), rtol=1e-4, atol=1e-3
        )
    data, report = quantized(model)
    assert report["difference"] < 0.03


def test_a_dilated_convolution_with_an_activation_inside():
    model = network(lambda x: adder(dilated(layers.Conv2D, "same", "relu")(x), 4), (11, 9, 3))
    batch = images(model, 4, seed=1)
    data = convert(model, "custom_op")
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-3)


def segmenting(x):
    """Down and up again, with what was before joined in."""
    down = layers.ReLU()(norm(adder(x, strides=2)))
    up = layers.UpSampling2D(2)(layers.ReLU()(norm(adder(down))))
    joined = layers.Concatenate()([layers.ReLU()(norm(layers.Conv2D(4, 1)(x))), up])
    return adder(joined, 4)


@pytest.mark.parametrize("bits", [pytest.param(5, marks=pytest.mark.slow), *thorough(8)])
def test_repeated_pixels_keep_their_scale(bits):
    model = network(segmenting)
    trained = quantization.quantize_model(model, images(model, 32), bits)
    data, report = quantized(trained)
    assert report["difference"] < 0.02
    graph = Graph(data)
    (operator,) = graph.named("RESIZE_NEAREST_NEIGHBOR")
    (joined,) = graph.named("CONCATENATION")
    tied = [operator.inputs[0], operator.outputs[0], *joined.inputs, *joined.outputs]
    assert all(graph.scale(t) == graph.scale(tied[0]) for t in tied)
    (step,), (zero,) = graph.scale(graph.subgraph.inputs[0])
    batch = images(model, 4, seed=1)
    integers = np.clip(np.rint(batch / step) + zero, -128, 127).astype(np.int8)
    output = Network(data, delegate_library.path())(integers)
    np.testing.assert_array_equal(output, int8.IntegerNetwork(data)(integers))


@pytest.mark.parametrize("factors", [(5, 7), *thorough(2, (3, 1), 11)])
def test_pixels_are_repeated_as_keras_does(factors):
    keras.utils.set_random_seed(0)
    x = keras.Input((7, 5, 3))
    model = keras.Model(x, adder(layers.UpSampling2D(factors)(x), 2))
    batch = images(model, 2)
    output = Network(convert(model, "portable"), None)(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-4)


def test_images_of_any_size_are_repeated_too():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, adder(layers.UpSampling2D(2)(x), 2))
    data = convert(model, "portable")
    assert "RESIZE_NEAREST_NEIGHBOR" not in names(data)


@pytest.mark.slow
def test_they_count_the_same_in_both_files():
    model = network(segmenting)
    counts = [
        sum(record.multiplications + record.additions for record in records)
        for records in (keras_records(model), tflite_records(quantized(model)[0]))
    ]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("kind", ["dense", "rows"])
def test_what_follows_a_dense_adder_is_inside_of_it(kind):
    def build(x):
        h = layers.Reshape((12, 16))(x) if kind == "rows" else layers.Flatten()(x)
        return layers.ReLU()(norm(AdderDense(5)(h)))

    model = network(build, (8, 8, 3))
    data = convert(model, "custom_op")
    assert not {"MUL", "ADD", "RELU"} & set(names(data))
    batch = images(model, 4, seed=1)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-3)
    assert quantized(model)[1]["difference"] < 0.03


def test_a_change_of_shape_that_mixes_channels_stays_before_what_follows():
    model = network(lambda x: norm(layers.Reshape((8, 4, 8))(adder(x, 4))), (8, 8, 3))
    data = convert(model, "custom_op")
    assert {"MUL", "ADD"} <= set(names(data))
    batch = images(model, 4, seed=1)
    output = Network(data, delegate_library.path())(batch)
    np.testing.assert_allclose(output, model(batch), rtol=1e-4, atol=1e-3)
