"""The SavedModel gives the network's outputs where this package is not installed."""

import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import pkkd_tf
from export import preprocessing, saved_model
from export.program import ExportError, load_network
from pkkd_tf import data, layers, models
from pkkd_tf.ops import compiled

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = data.PREPROCESSING["digits"]
# Neither this package nor Keras may be imported there.
READER = """
import sys
sys.modules.update({"pkkd_tf": None, "custom_ops": None, "export": None, "keras": None})
import numpy as np
import tensorflow as tf
folder, batches = sys.argv[1:]
batches = np.load(batches)
signatures = tf.saved_model.load(folder).signatures
outputs = {}
for name, images in batches.items():
    outputs[name] = signatures[name.split("-")[0]](tf.constant(images))["logits"].numpy()
np.savez("outputs.npz", **outputs)
"""


def fitted(model):
    """The network with normalization that fits its responses: outputs depend on the images."""
    shape = (16, *(size or 8 for size in model.input_shape[1:]))
    for layer in model.layers:
        layer.momentum = 0.0
    model(np.random.default_rng(1).standard_normal(shape).astype("float32"), training=True)
    return model


def one_adder(shape):
    adder = layers.AdderConv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()
    head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, dtype="float32")
    return keras.Sequential([keras.Input(shape), *adder, *head])


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.keras"
    fitted(models.digits_resnet()).save(path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One adder layer and a classifier: for what does not depend on the network."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    fitted(one_adder((8, 8, 1))).save(path)
    return path


@pytest.fixture(scope="module")
def served(student, tmp_path_factory):
    """What the program writes."""
    folder = tmp_path_factory.mktemp("served") / "served"
    arguments = [f"--model={student}", f"--output={folder}", "--dataset=digits"]
    done = subprocess.run(
        [sys.executable, "-m", "export.saved_model", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("signatures: serving_default, serving_uint8\noutputs equal the ")
    return folder


def operations(folder):
    """The names of all operations in a SavedModel, those in its functions too."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return set(re.findall(r'\bop: "(\w+)"', str(saved.meta_graphs[0].graph_def)))


@pytest.mark.slow
def test_runs_without_this_package(student, served, tmp_path):
    images = data.load("digits").sample(5)
    pixels = np.rint((images * DIGITS["std"] + DIGITS["mean"]) / DIGITS["scale"]).astype("uint8")
    assert pixels.min() == 0 and pixels.max() == 16
    batches = {
        "serving_default-1": images[:1],
        "serving_default-5": images,
        "serving_uint8-5": pixels,
    }
    np.savez(tmp_path / "batches.npz", **batches)
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER, str(served), str(tmp_path / "batches.npz")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    expected = keras.models.load_model(student).predict(images, verbose=0)
    assert np.ptp(expected, axis=0).min() > 0.1
    for name in batches:
        np.testing.assert_allclose(outputs[name], expected[: int(name[-1])], atol=1e-4)


@pytest.mark.slow
def test_float32_and_any_size(tmp_path):
    """A network trained in 16 bits for images of any size."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = fitted(one_adder((None, None, 1)))
    model.save(tmp_path / "student.keras")
    keras.config.set_dtype_policy("float32")
    saved_model.export_saved_model(tmp_path / "student.keras", tmp_path / "served")
    signatures = tf.saved_model.load(tmp_path / "served").signatures
    assert set(signatures) == {"serving_default"}
    plain = one_adder((8, 8, 1))
    plain.set_weights(model.get_weights())
    images = data.load("digits").sample(4)
    actual = signatures["serving_default"](tf.constant(images))["logits"]
    np.testing.assert_allclose(actual, plain.predict(images, verbose=0), atol=1e-4)


@pytest.mark.slow
def test_stock_operations_unless_compiled_is_asked_for(served, small, tmp_path, monkeypatch):
    assert not [name for name in operations(served) if name.startswith("Pkkd")]
    if compiled.is_available():
        difference = saved_model.export_saved_model(small, tmp_path / "own", use_compiled=True)
        assert difference < 1e-5
        assert "PkkdAdderConv2D" in operations(tmp_path / "own")
    monkeypatch.setattr(compiled, "_load", lambda: (None, "The compiled library does not exist."))
    message = "run python -m custom_ops.build. Received: The compiled library does not exist."
    with pytest.raises(ExportError, match=message):
        saved_model.export_saved_model(small, tmp_path / "other", use_compiled=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_different_outputs_are_not_kept(small, served, tmp_path, monkeypatch):
    """What the second signature does wrong is noticed, and what lay there stays."""
    shutil.copytree(served, tmp_path / "served")
    right = saved_model.normalize

    def wrong_in_graphs(pixels, values):
        return right(pixels, values) * (1 if tf.executing_eagerly() else 1.01)

    monkeypatch.setattr(saved_model, "normalize", wrong_in_graphs)
    message = (
        r"network's outputs; it was not kept. Received: compared='serving_uint8, logits', relative"
    )
    with pytest.raises(ExportError, match=message):
        saved_model.export_saved_model(small, tmp_path / "served", DIGITS, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        assert (tmp_path / "served" / name).read_bytes() == (served / name).read_bytes()


@pytest.mark.slow
def test_what_exists_is_replaced_on_demand_only(small, served, tmp_path):
    with pytest.raises(ExportError, match="must not exist, or --overwrite be given. Received: out"):
        saved_model.export_saved_model(small, served)
    shutil.copytree(served, tmp_path / "served")
    saved_model.export_saved_model(small, tmp_path / "served", overwrite=True)
    assert set(tf.saved_model.load(tmp_path / "served").signatures) == {"serving_default"}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years")
    with pytest.raises(ExportError, match="replaces only what this program writes"):
        saved_model.export_saved_model(small, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served", "thesis"]


def test_a_disk_that_is_full(small, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "/tmp/part; No space left [Op:SaveV2]")

    monkeypatch.setattr(tf.saved_model, "save", full)
    message = f"with room for all of it. Received: No space left: '{tmp_path}/served'"
    with pytest.raises(ExportError, match=message):
        saved_model.export_saved_model(small, tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_a_network_without_differences_is_pointed_out(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.ReLU()(layers.AdderConv2D(4, 3)(inputs))  # responses are never positive
    keras.Model(inputs, keras.layers.Flatten()(x)).save(tmp_path / "dead.keras")
    with pytest.warns(UserWarning, match="one and the same output for different images"):
        saved_model.export_saved_model(tmp_path / "dead.keras", tmp_path / "served")


def test_files_that_are_no_network(tmp_path):
    (tmp_path / "text.keras").write_text("no archive")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    pair = pkkd_tf.PKKD(models.digits_resnet(), models.digits_resnet(kind="convolution"))
    pair.compile(pkkd_tf.optimizers.AdderSGD(0.1))
    pair.save(tmp_path / "pkkd.keras")
    for name, message in (
        ("missing.keras", "--model must be an existing .keras file. Received: model="),
        ("text.keras", "--model must be a network that Keras saved whole. Received: model="),
        ("dense.keras", r"batch of images \(N, H, W, C\) to one tensor, .*inputs=\[\(None, 4\)\]"),
        ("pkkd.keras", "take student.keras. Received: .* type=PKKD"),
    ):
        with pytest.raises(ExportError, match=message):
            load_network(tmp_path / name)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("digits", ["0.5"], None, None), "--dataset excludes --mean, --std and --scale. Received"),
        ((None, ["0.5"], None, None), "the same number of values. Received: dataset=None, mean="),
        ((None, None, None, 0.5), "the same number of values"),
        ((None, ["0.5"], ["0.2", "0.2"], None), "the same number of values"),
        ((None, ["half"], ["0.2"], None), "must be finite numbers. Received: .*'half'"),
        ((None, ["nan"], ["0.2"], None), "must be finite numbers"),
        ((None, ["0.5"], ["0"], None), "must be positive"),
        ((None, ["0.5"], ["0.2"], -1.0), "must be positive. Received: .*scale=-1.0"),
    ],
)
def test_preprocessing_that_contradicts_itself(arguments, message):
    with pytest.raises(ExportError, match=message):
        preprocessing.parse(*arguments)


def test_preprocessing():
    assert preprocessing.parse(None, None, None, None) is None
    assert preprocessing.parse("digits", None, None, None) == data.load("digits").preprocessing
    assert preprocessing.parse(None, ["0.5", "0"], ["0.25", "1"], None) == {
        "mean": (0.5, 0.0),
        "std": (0.25, 1.0),
        "scale": 1 / 255,
    }


def test_channels_must_fit(small, tmp_path):
    message = r"one a channel of the network's images. Received: mean=\(0.4914.*, channels=1"
    with pytest.raises(ExportError, match=message):
        saved_model.export_saved_model(small, tmp_path / "x", data.PREPROCESSING["cifar10"])
