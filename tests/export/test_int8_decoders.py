"""int8 of what makes images larger, and of the larger or smaller of two tensors."""

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError
from export.tflite import Network, int8
from export.tflite.graph import Graph
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.export.test_int8_operators import FLOAT_OUTPUTS, adder, functional, quantized
from tests.networks import calibrated, images, mostly_slow

TRANSPOSED = {
    "same": {"kernel_size": 3, "strides": 2, "padding": "same"},
    "valid": {"kernel_size": 3, "strides": 2},
    "unequal": {"kernel_size": (5, 4), "strides": (2, 3), "padding": "same"},
    "with gaps": {"kernel_size": (1, 2), "strides": (2, 3), "padding": "same"},
    "of one pixel": {"kernel_size": 3, "padding": "same"},
    "longer": {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
}


def check_integers(data):
    """The interpreter gives the reference, but for halves that it rounds otherwise."""
    graph = Graph(data)
    shape = graph.shape(graph.subgraph.inputs[0])[1:]
    batch = np.resize(np.arange(-128, 128), (4, *shape)).astype(np.int8)
    output = Network(data, delegate_library.path())(batch)
    difference = output.astype(int) - int8.IntegerNetwork(data)(batch)
    assert np.abs(difference).max() <= 1 and len(np.unique(output)) > 3


@pytest.mark.parametrize("name", mostly_slow(TRANSPOSED, "with gaps"))
def test_transposed_convolutions(name):
    def build(x):
        sums = layers.Conv2DTranspose(5, **TRANSPOSED[name], bias_initializer="normal")(x)
        return adder(4)(layers.ReLU()(layers.BatchNormalization()(sums)))

    data, report = quantized(functional((8, 7, 4), build))
    assert report["difference"] < FLOAT_OUTPUTS and Graph(data).named("TRANSPOSE_CONV")
    check_integers(data)


@pytest.mark.slow
def test_a_transposed_convolution_of_its_own():
    """Without bias, normalization and activation."""
    transposed = layers.Conv2DTranspose(6, 4, 2, padding="same", use_bias=False)
    data, report = quantized(functional((6, 6, 3), lambda x: adder(4)(transposed(x))))
    (operator,) = Graph(data).named("TRANSPOSE_CONV")
    assert report["difference"] < FLOAT_OUTPUTS and len(operator.inputs) == 4
    check_integers(data)


def test_a_transposed_convolution_that_gives_nothing_but_zeros():
    """Their step is that of its images: its first input is the output's shape."""
    transposed = layers.Conv2DTranspose(4, 3, 2, kernel_initializer="zeros")
    data, report = quantized(functional((6, 6, 3), lambda x: adder(4)(transposed(x))))
    assert report["difference"] < FLOAT_OUTPUTS
    graph = Graph(data)
    (operator,) = graph.named("TRANSPOSE_CONV")
    assert graph.scale(operator.outputs[0])[0] == graph.scale(operator.inputs[2])[0]


def test_dilated_transposed_convolutions_are_refused():
    transposed = layers.Conv2DTranspose(6, 3, padding="same", dilation_rate=2)
    with pytest.raises(ExportError, match="Received: Conv2DBackpropInput"):
        quantized(functional((6, 6, 3), lambda x: adder(4)(transposed(x))))


RESIZED = {
    "larger": layers.UpSampling2D((2, 3), interpolation="bilinear"),
    "other": layers.Resizing(13, 5),
}


@pytest.mark.parametrize("name", mostly_slow(RESIZED, "other"))
def test_resized_images_keep_their_scale(name):
    data, report = quantized(functional((8, 7, 4), lambda x: adder(4)(RESIZED[name](x))))
    (operator,) = Graph(data).named("RESIZE_BILINEAR")
    assert Graph(data).scale(operator.inputs[0]) == Graph(data).scale(operator.outputs[0])
    assert report["difference"] < FLOAT_OUTPUTS
    check_integers(data)


CHOSEN = {
    "MAXIMUM": lambda x: layers.Maximum()([x, 3.0 * layers.Conv2D(4, 1)(x)]),
    "MINIMUM": lambda x: layers.Minimum()([x, 3.0 * layers.Conv2D(4, 1)(x)]),
    "RELU": lambda x: layers.ReLU(max_value=1.5)(x),  # and the smaller one of it and a constant
}


@pytest.mark.parametrize("bits", (8, pytest.param(5, marks=pytest.mark.slow)))
@pytest.mark.parametrize("name", mostly_slow(CHOSEN, "MAXIMUM"))
def test_the_chosen_one_of_two_has_their_scale(name, bits):
    model = functional((8, 7, 4), lambda x: adder(4)(CHOSEN[name](x)))
    data, report = int8.make(model, images(model, 32), delegate_library.path(), bits)
    graph = Graph(data)
    assert report["difference"] < (FLOAT_OUTPUTS if bits == 8 else 0.2) and graph.named(name)
    for operator in graph.named("MAXIMUM") + graph.named("MINIMUM"):
        scales = [graph.scale(t) for t in (*operator.inputs, *operator.outputs)]
        assert all(scale == scales[0] for scale in scales)
    if bits == 8:  # with fewer, a step of the activations is many of the outputs
        check_integers(data)


def decoder(x):
    """Down and up again by both ways, with shortcuts."""
    down = layers.PReLU(shared_axes=(1, 2))(norm(AdderConv2D(6, 3, strides=2, padding="same")(x)))
    low = layers.ReLU()(norm(AdderConv2D(8, 3, strides=2, padding="same")(down)))
    up = layers.ReLU()(norm(layers.Conv2DTranspose(6, 2, 2)(low)))
    up = layers.ReLU()(norm(AdderConv2D(4, 3, padding="same")(layers.Maximum()([down, up]))))
    up = layers.UpSampling2D(2, interpolation="bilinear")(up)
    return adder(3)(layers.Concatenate()([x, up]))


def norm(x):
    return layers.BatchNormalization(momentum=0.9)(x)


@pytest.mark.slow
@pytest.mark.parametrize("bits", (8, 5))
def test_a_file_rounds_as_the_fine_tuned_network_does(bits, tmp_path):
    model = calibrated(functional((8, 8, 3), decoder))
    trained = quantization.quantize_model(model, images(model, 32), bits)
    trained.save(tmp_path / "quantized.keras")
    trained = keras.models.load_model(tmp_path / "quantized.keras")
    data, report = int8.make(trained, images(model, 32), delegate_library.path())
    assert report["difference"] < (0.01 if bits == 8 else 0.04)
    check_integers(data)
    plain = quantization.strip_quantization(trained)
    batch = images(model, 4, seed=1)
    np.testing.assert_allclose(plain(batch), model(batch), rtol=1e-4, atol=1e-4)
