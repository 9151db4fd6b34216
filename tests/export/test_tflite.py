"""Networks as .tflite files: the same outputs, the operators that were promised, clear errors."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.program import ExportError
from export.tflite import Network, convert, export_tflite
from export.tflite.graph import Graph, get_options
from pkkd_tf import models
from pkkd_tf.layers import AdderConv2D, AdderDense, AdderDepthwiseConv2D
from tests import delegate_library
from tests.networks import calibrated, sequential

FORMATS = ("portable", "custom_op")


def run(data, images):
    return Network(data, delegate_library.path())(images)


def assert_equal_outputs(model, data, shape=None):
    shape = shape or model.input_shape[1:]
    images = np.random.default_rng(0).standard_normal((5, *shape)).astype("float32")
    expected = np.asarray(model(images, training=False))
    assert np.ptp(expected, axis=0).min() > 0
    for batch in (slice(0, 2), slice(2, 5)):
        difference = np.abs(run(data, images[batch]) - expected[batch]).max()
        assert difference <= 2e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return calibrated(models.build("digits_resnet"))


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "student.keras"
    network.save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_digits_resnet(network, file, format, tmp_path):
    delegate_library.path()
    report = export_tflite(file, tmp_path / "x.tflite", format)
    data = (tmp_path / "x.tflite").read_bytes()
    assert_equal_outputs(network, data)
    assert report["difference"] <= 1e-4 and report["alive"] and report["bytes"] == len(data)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tflite"]
    adders = sum(isinstance(layer, AdderConv2D) for layer in network.layers)
    if format == "custom_op":
        assert report["operators"]["AdderConv2D"] == adders
        assert not {"PAD", "MUL", "ADD", "SUB", "RELU"} & set(report["operators"])
    else:
        assert not any(not name.isupper() for name in report["operators"])
        assert report["operators"]["ABS"] >= adders


def test_networks_of_several_inputs_are_refused():
    x, other = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    model = keras.Model([x, other], keras.layers.Add()([AdderConv2D(3, 1)(x), other]))
    with pytest.raises(ExportError, match="must map one tensor to one other, or to a list or dict"):
        convert(model, "custom_op")


@pytest.mark.slow
def test_resnet_options(network):
    """Padding folded at stride 2; each block's first and last layer and the shortcut."""
    graph = Graph(convert(network, "custom_op"))
    options = [get_options(operator) for operator in graph.named("AdderConv2D")]
    first, last = options[0], options[1]
    assert (first.get("affine"), first.get("residual"), first.get("relu")) == (1, None, 1)
    assert (last.get("affine"), last.get("residual"), last.get("relu")) == (1, 1, 1)
    strided = [o for o in options if o["stride_h"] == 2]
    assert sorted(o["pad_top"] for o in strided) == [0, 0, 1, 1]
    shortcuts = [o for o in strided if o["pad_top"] == 0]
    assert all(o["affine"] and "relu" not in o and "residual" not in o for o in shortcuts)


LAYERS = {
    "same": ((6, 5, 3), lambda: [AdderConv2D(4, 3, padding="same")]),
    "stride": ((8, 7, 3), lambda: [AdderConv2D(4, 3, strides=2, padding="same")]),
    "valid": ((9, 9, 2), lambda: [AdderConv2D(3, (2, 3), dilation_rate=(2, 1))]),
    "groups": ((6, 6, 6), lambda: [AdderConv2D(9, 3, groups=3, padding="same")]),
    "bias": ((5, 5, 2), lambda: [AdderConv2D(3, 3, use_bias=True, bias_initializer="normal")]),
    "depthwise": ((6, 6, 3), lambda: [AdderDepthwiseConv2D(3, depth_multiplier=2)]),
    "dense": ((2, 3, 4), lambda: [AdderDense(5), keras.layers.Flatten(), AdderDense(3)]),
    "channels_first": ((2, 6, 6), lambda: [AdderConv2D(3, 3, data_format="channels_first")]),
    "relu6": ((6, 6, 2), lambda: [AdderConv2D(3, 2), keras.layers.Rescaling(0.5, 8), "relu6"]),
    "branches": ((6, 6, 2), lambda: ["branches"]),
}


def branches(shape):
    """One response read three times, and one added to itself: nothing may disappear."""
    image = keras.Input(shape)
    y = AdderConv2D(2, 3, padding="same")(image)
    z = keras.layers.BatchNormalization()(y)
    w = keras.layers.ReLU()(keras.layers.Add()([z, y]))
    v = AdderConv2D(2, 1)(w)
    return keras.Model(image, keras.layers.Add()([keras.layers.Add()([v, v]), z]))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, format):
    shape, layers = LAYERS[name]
    layers = [keras.layers.Activation(x) if x == "relu6" else x for x in layers()]
    model = branches(shape) if layers == ["branches"] else sequential(shape, *layers)
    assert_equal_outputs(model, convert(model, format))


@pytest.mark.parametrize("format", FORMATS)
def test_unknown_height_and_width(format):
    model = sequential(
        (None, None, 2), AdderConv2D(3, 3, padding="same"), AdderConv2D(4, 3, strides=2)
    )
    data = convert(model, format)
    for shape in ((9, 8, 2), (12, 15, 2)):
        assert_equal_outputs(model, data, shape)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_for_images_of_one_size(network, format):
    """Of another size TFLite would give other numbers, or the rows of another batch."""
    exported = Network(convert(network, format), delegate_library.path())
    for shape in ((2, 16, 16, 1), (2, 8, 9, 1), (2, 8, 8, 3), (8, 8, 1)):
        message = r"must have the height, width and channels .*file=\(-1, 8, 8, 1\)"
        with pytest.raises(ExportError, match=message):
            exported(np.zeros(shape, np.float32))
    assert exported(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)


def test_padding_that_depends_on_an_unknown_size_is_refused():
    model = sequential((None, None, 2), AdderConv2D(3, 3, strides=2, padding="same"))
    with pytest.raises(ExportError, match="images of known height and width. Received: image"):
        convert(model, "portable")


def test_a_network_of_16_bits_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = sequential((6, 6, 3), AdderConv2D(4, 3), keras.layers.Flatten(dtype="float32"))
    keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "m.keras")
    assert export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite")["difference"] <= 1e-5


def test_a_dead_network_is_reported(tmp_path):
    """Responses near -27 and ReLU: nothing of the image is left."""
    model = sequential((6, 6, 3), AdderConv2D(4, 3, activation="relu"))
    model.save(tmp_path / "m.keras")
    assert export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite")["alive"] is False


def test_what_differs_is_not_written(monkeypatch, tmp_path):
    from export.tflite import exporter

    model, other = (sequential((6, 6, 3), AdderConv2D(4, 3)) for _ in range(2))
    other.set_weights([1.001 * weight for weight in model.get_weights()])
    model.save(tmp_path / "m.keras")
    monkeypatch.setattr(exporter, "convert", lambda model, format: convert(other, format))
    with pytest.raises(
        ExportError, match="it was not written. Received: output='logits', relative"
    ):
        export_tflite(tmp_path / "m.keras", tmp_path / "x.tflite")
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


class Digamma(keras.layers.Layer):
    def call(self, inputs):
        return tf.math.digamma(inputs)


def test_what_tflite_does_not_know():
    with pytest.raises(ExportError, match="must be one that TFLite knows. Received: "):
        convert(sequential((4, 4, 3), Digamma()), "portable")


class OwnModel(keras.Model):
    def call(self, inputs):
        return inputs


def test_networks_must_be_graphs_of_layers():
    with pytest.raises(ExportError, match="functional or sequential.* Received: OwnModel"):
        convert(OwnModel(), "portable")


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """A layer that holds an adder layer, as no copying can exchange it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.adder = AdderConv2D(4, 3, name="inner")

    def build(self, shape):
        self.adder.build(shape)

    def call(self, x):
        return self.adder(x)


@pytest.mark.parametrize("format", FORMATS)
def test_adder_layers_inside_of_other_layers_are_named(format):
    model = sequential((6, 6, 3), Block(), keras.layers.Flatten())
    with pytest.raises(ExportError, match=r"not parts of a layer .*: adder layers=\['inner'\]"):
        convert(model, format)


def test_networks_of_integers_are_refused(tmp_path):
    images = keras.Input((6, 6, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    keras.Model(images, AdderConv2D(4, 3)(x)).save(tmp_path / "m.keras")
    with pytest.raises(ExportError, match="must take real numbers.* Received: dtype=uint8"):
        export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite")
    assert not (tmp_path / "m.tflite").exists()


def test_format_must_be_known(network):
    with pytest.raises(ValueError, match="`format` must be one of .* Received: format='int4'"):
        convert(network, "int4")


@pytest.mark.slow
def test_a_missing_delegate(file, tmp_path):
    with pytest.raises(ExportError, match="run python -m custom_ops.build_delegate. Received:"):
        export_tflite(file, tmp_path / "x.tflite", "custom_op", delegate=tmp_path / "none.so")
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(ExportError, match="a library that TFLite can load. Received: delegate="):
        export_tflite(file, tmp_path / "x.tflite", "custom_op", delegate=tmp_path / "text.so")


def test_existing_files(file, tmp_path):
    output = tmp_path / "x.tflite"
    output.write_text("something else")
    with pytest.raises(ExportError, match="must not exist"):
        export_tflite(file, output)
    with pytest.raises(ExportError, match="replaces only what this program writes"):
        export_tflite(file, output, overwrite=True)
    assert output.read_text() == "something else"


@pytest.mark.slow
def test_command_line(file, tmp_path):
    output = tmp_path / "x.tflite"
    command = [sys.executable, "-m", "export.tflite", f"--model={file}", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"output: {output} ({output.stat().st_size:,} bytes)" in done.stdout
    assert "outputs equal the network's to" in done.stdout


@pytest.mark.parametrize("rising", (True, False))
def test_batch_norm_moves_before_a_maximum_where_it_rises(rising):
    """VGG pools first; a channel whose factor is negative stays as it is."""
    random = np.random.default_rng(0)
    norm = keras.layers.BatchNormalization()
    layers = AdderConv2D(4, 3), keras.layers.MaxPooling2D(), norm, keras.layers.ReLU()
    model = sequential((8, 8, 3), *layers, keras.layers.Flatten())
    gamma = random.uniform(0.5, 1.5, 4) * (1 if rising else [1, 1, -1, 1])
    norm.set_weights([gamma, np.full(4, 8), random.normal(size=4) - 28, np.full(4, 9)])
    data = convert(model, "custom_op")
    assert_equal_outputs(model, data)
    graph = Graph(data)
    names = [graph.name(operator) for operator in graph.operators]
    assert names[:2] == ["AdderConv2D", "MAX_POOL_2D"]
    assert ("MUL" in names) == (not rising)
    assert get_options(graph.operators[0]).get("relu", 0) == rising
