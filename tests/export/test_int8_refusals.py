"""What the int8 export refuses: numbers that are not finite, arguments that would do nothing."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from export.program import ExportError
from export.tflite import export_tflite, int8
from pkkd_tf import quantization
from pkkd_tf.layers import AdderConv2D
from tests import delegate_library
from tests.networks import calibrated, images, sequential


def adders():
    keras.utils.set_random_seed(1)
    return sequential(
        (6, 6, 3),
        AdderConv2D(4, 3, name="adder"),
        layers.BatchNormalization(name="norm", momentum=0.5),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="head"),
    )


def convolutions():
    keras.utils.set_random_seed(1)
    return sequential((6, 6, 3), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3))


WEIGHTS = {
    "norm/moving_variance": np.nan,
    "norm/gamma": -np.inf,
    "adder/kernel": np.nan,
    "head/kernel": np.nan,
    "head/bias": np.inf,
}


@pytest.mark.parametrize("path", WEIGHTS)
def test_weights_that_are_not_finite_are_named(path):
    model = adders()
    weight = next(w for w in model.weights if w.path.endswith(path))
    values = keras.ops.convert_to_numpy(weight).copy()
    values.flat[0] = WEIGHTS[path]
    weight.assign(values)
    message = f"must be finite numbers. Received: weight=.*{path}, .*=1 of {values.size}"
    with pytest.raises(ExportError, match=message):
        int8.make(model, images(model, 8), delegate_library.path())


def test_weights_of_convolutions_too():
    model = convolutions()
    model.weights[-1].assign(np.full(3, np.inf))
    with pytest.raises(ExportError, match="bias, values that are not finite=3 of 3"):
        int8.make(model, images(model, 8), None)


def test_finite_weights_whose_outputs_are_not():
    """The square root of a negative variance."""
    model = adders()
    model.get_layer("norm").moving_variance.assign(np.full(4, -1.0))
    with pytest.raises(ExportError, match="must compute finite numbers.*Received: tensor="):
        int8.make(model, images(model, 8), delegate_library.path())


def test_a_difference_that_is_not_finite(monkeypatch):
    from export.tflite.int8 import making

    class Infinite(making.Network):
        def named(self, batch):
            return {name: values * np.inf for name, values in super().named(batch).items()}

    monkeypatch.setattr(making, "Network", Infinite)
    model = convolutions()
    with pytest.raises(ExportError, match="must give finite numbers; .*, difference=(inf|nan)"):
        int8.make(model, images(model, 8), None)


def test_outputs_whose_squares_float32_does_not_hold():
    model = convolutions()
    model.weights[-2].assign(model.weights[-2] * 1e25)
    assert int8.make(model, images(model, 16), None)[1]["difference"] < 0.1


def test_bits_are_for_adder_layers(tmp_path):
    model = convolutions()
    with pytest.raises(ExportError, match="those of adder layers.* Received: bits=4, adder lay"):
        int8.make(model, images(model, 8), None, bits=4)
    adders().save(tmp_path / "m.keras")
    for format in ("portable", "custom_op"):
        for given in ({"bits": 4}, {"calibration_images": images(model, 8)}):
            with pytest.raises(ExportError, match=f"are for format='int8'.*format='{format}'"):
                export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite", format, **given)
    assert not (tmp_path / "m.tflite").exists()


def fine_tuned(tmp_path, bits):
    """A network that computes in rounded numbers, its file, and images."""
    model = adders()
    batch = images(model, 8)
    model = quantization.quantize_model(model, batch, bits=bits)
    model.save(tmp_path / "m.keras")
    return model, tmp_path / "m.keras", batch


@pytest.mark.slow
def test_bits_of_a_fine_tuned_network_are_its_own(tmp_path):
    _, path, batch = fine_tuned(tmp_path, 4)
    given = {"format": "int8", "calibration_images": batch, "delegate": delegate_library.path()}
    with pytest.raises(ExportError, match="fine-tuned in. Received: bits=8, the network's=4"):
        export_tflite(path, tmp_path / "m.tflite", bits=8, **given)
    for bits in (None, 4):
        export_tflite(path, tmp_path / "m.tflite", bits=bits, overwrite=True, **given)


def test_rounding_is_not_lost(tmp_path):
    """That of a network inside another one, and that of a layer by itself."""
    model, _, batch = fine_tuned(tmp_path, 4)
    by_itself = quantization.QuantizedAdderConv2D(4, 3, bits=2, name="by_itself")
    for other, name in ((sequential((6, 6, 3), model), "adder"), (own(by_itself), "by_itself")):
        with pytest.raises(ExportError, match=f"that quantize_model made, .* layers=.*'{name}'"):
            int8.make(other, batch, delegate_library.path())
        other.save(tmp_path / "n.keras")
        with pytest.raises(ExportError, match="is exported as --format=int8. Received: format='p"):
            export_tflite(tmp_path / "n.keras", tmp_path / "n.tflite")


def own(layer):
    return calibrated(sequential((6, 6, 3), layer, layers.GlobalAveragePooling2D()))


@pytest.mark.slow
def test_calibration_data_of_a_float_format(tmp_path):
    command = [sys.executable, "-m", "export.tflite", "--model=m.keras", "--format=portable"]
    command += [f"--output={tmp_path / 'm.tflite'}", "--calibration_data=x.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "--calibration_data are for --format=int8. Received: format=portable" in done.stderr


@pytest.mark.parametrize("format", ("int8", "custom_op"))
def test_a_network_without_adder_layers_needs_no_delegate(format, tmp_path, monkeypatch):
    from export.tflite import exporter

    monkeypatch.setattr(exporter.build_delegate, "LIBRARY", tmp_path / "none.so")
    model = calibrated(convolutions())
    model.save(tmp_path / "m.keras")
    batch = images(model, 16) if format == "int8" else None
    output = tmp_path / "m.tflite"
    report = export_tflite(tmp_path / "m.keras", output, format, calibration_images=batch)
    assert report["alive"] and output.is_file()
