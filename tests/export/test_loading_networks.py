"""Networks of any float type are loaded to run in float32."""

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError, load_network
from export.saved_model import export_saved_model
from export.tflite import FORMATS, export_tflite
from pkkd_tf.layers import AdderConv2D, AdderDense
from tests.networks import calibrated, images

POLICIES = ("float64", "bfloat16", "float16", "mixed_bfloat16")


def network(policy):
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            AdderConv2D(4, 3, padding="same", dtype=policy),
            layers.BatchNormalization(momentum=0.9, dtype=policy),
            layers.ReLU(dtype=policy),
        ]
    )
    x = keras.Input((8, 8, 3))
    h = inner(AdderConv2D(4, 3, dtype=policy)(x))
    return calibrated(keras.Model(x, AdderDense(3, dtype=policy)(layers.Flatten(dtype=policy)(h))))


@pytest.fixture(scope="module", params=POLICIES)
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "m.keras"
    network(request.param).save(path)
    return path


def test_their_weights_are_float32(saved):
    model, original = load_network(saved), keras.models.load_model(saved)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    for weight, expected in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), np.asarray(expected).astype("float32"))


def test_they_give_what_they_gave(saved):
    model, original = load_network(saved), keras.models.load_model(saved)
    batch = images(model, 4)
    expected = np.asarray(keras.ops.cast(original(batch), "float32"))
    error = np.abs(np.asarray(model(batch)) - expected).max() / np.abs(expected).max()
    assert error < (1e-6 if "float64" in str(saved) else 0.05)


@pytest.mark.slow
def test_they_become_files(saved, tmp_path):
    assert export_saved_model(saved, tmp_path / "m") <= 1e-4
    for format in FORMATS:
        batch = images(load_network(saved), 16) if format == "int8" else None
        report = export_tflite(
            saved, tmp_path / f"{format}.tflite", format, calibration_images=batch
        )
        assert report["difference"] <= (0.1 if format == "int8" else 1e-4)


@keras.saving.register_keras_serializable("tests")
class Wrapped(layers.Layer):
    """A layer that keeps its weight's type to itself."""

    def build(self, shape):
        self.offset = self.add_weight(shape=(shape[-1],), dtype="float64", name="offset")

    def call(self, x):
        return x + keras.ops.cast(self.offset, x.dtype)


def test_weights_that_stay_of_another_type_are_named(tmp_path):
    x = keras.Input((4, 4, 1))
    keras.Model(x, Wrapped()(x)).save(tmp_path / "m.keras")
    with pytest.raises(ExportError, match="float32 weights, or .* Received: '.*/offset': 'float64"):
        load_network(tmp_path / "m.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_given_statistics_are_not_those_of_sixteen_bits(policy, tmp_path):
    mean, variance = [123.675, 116.28, 103.53], [3411.0, 3262.0, 3290.0]
    x = keras.Input((4, 4, 3))
    h = layers.Normalization(mean=mean, variance=variance, dtype=policy)(x)
    keras.Model(x, h).save(tmp_path / "m.keras")
    pixels = np.full((1, 4, 4, 3), 200.0, "float32")
    found = load_network(tmp_path / "m.keras")(pixels)
    np.testing.assert_allclose(found, (pixels - mean) / np.sqrt(variance), rtol=1e-6)
