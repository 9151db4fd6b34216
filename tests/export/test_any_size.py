"""Networks for images of any height and width: sizes that a file computes, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError
from export.saved_model import export_saved_model
from export.tflite import Network, int8
from export.tflite.converter import FLOAT_FORMATS, convert
from export.tflite.graph import Graph
from pkkd_tf.layers import AdderConv2D, AdderDense
from tests import delegate_library
from tests.export.test_int8_operators import FLOAT_OUTPUTS

SIZES = (9, 9), (12, 7)


def adder(x, **options):
    return AdderConv2D(4, 3, padding="same", **options)(x)


def any_size(build):
    """A network whose batch normalizations know the images of one size."""
    keras.utils.set_random_seed(0)
    x = keras.Input((None, None, 3))
    h = layers.BatchNormalization(momentum=0.5)(adder(x))
    model = keras.Model(x, adder(build(layers.ReLU()(h))))
    for _ in range(10):
        model(images(*SIZES[0]), training=True)
    return model


def images(height, width, count=8):
    shape = (count, height, width, 3)
    return np.random.default_rng(height).standard_normal(shape).astype("float32")


TRANSPOSED = {
    "same": {"strides": 2, "padding": "same"},
    "valid": {"strides": 2},
    "of one pixel": {},
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_sizes_that_a_transposed_convolution_computes_are_no_activations(name):
    model = any_size(layers.Conv2DTranspose(4, 3, **TRANSPOSED[name]))
    data, report = int8.make(model, images(*SIZES[0]), delegate_library.path())
    graph = Graph(data)
    computed = {graph.name(o) for o in graph.operators if graph.dtype(o.outputs[0]) == np.int32}
    assert report["difference"] < FLOAT_OUTPUTS and computed & {"ADD", "MUL"}
    for size in SIZES:
        batch = np.clip(np.rint(images(*size) * 40), -128, 127).astype(np.int8)
        output = Network(data, delegate_library.path())(batch)
        difference = output.astype(int) - int8.IntegerNetwork(data)(batch)
        assert np.abs(difference).max() <= 1 and len(np.unique(output)) > 3


@pytest.mark.slow
def test_dilated_convolutions_whose_padding_follows_the_size():
    model = any_size(layers.Conv2D(4, 3, padding="same", dilation_rate=2))
    for format in FLOAT_FORMATS:
        network = Network(convert(model, format), delegate_library.path())
        for size in SIZES:
            batch = images(*size)
            np.testing.assert_allclose(network(batch), model(batch), rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match="Received: .*SPACE_TO_BATCH_ND"):
        int8.make(model, images(*SIZES[0]), delegate_library.path())


REFUSED = {
    "stride": (lambda x: adder(x, strides=2), 'Padding "same" .* strides=\\(2, 2\\)'),
    "rows": (AdderDense(4), "AdderDense is exported .* input shape=\\(None, None, None, 4\\)"),
    "resized": (
        layers.UpSampling2D(2, interpolation="bilinear"),
        "The network must become a graph .* Received: \\(None, None, None, 3\\), \\w+: Using a",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence(name):
    build, sentence = REFUSED[name]
    with pytest.raises(ExportError, match=f"^{sentence}") as caught:
        convert(any_size(build), "portable")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_saved_model_needs_a_graph_too(tmp_path):
    any_size(REFUSED["resized"][0]).save(tmp_path / "any.keras")
    with pytest.raises(ExportError, match=f"^{REFUSED['resized'][1]}") as caught:
        export_saved_model(tmp_path / "any.keras", tmp_path / "saved")
    assert "\n" not in str(caught.value) and not (tmp_path / "saved").exists()
