"""Networks of several outputs, as a detector's: every file gives each by its name."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import pkkd_tf
from experiments import networks
from experiments.errors import RunError
from export.demo import measuring
from export.energy import keras_records, measure, tflite_records
from export.outputs import output_names
from export.program import ExportError, load_network
from export.saved_model import export_saved_model
from export.tflite import Network, export_tflite, int8, verdict
from export.tflite.converter import FLOAT_FORMATS, convert
from export.tflite.graph import Graph
from pkkd_tf import quantization
from tests import delegate_library
from tests.export.test_int8_preparation import adder, norm
from tests.networks import calibrated, images


def detector(form):
    """Boxes, scores, classes, and a tensor that an operator would have taken in."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), name="images")
    inner = adder(layers.ReLU()(norm(adder(x))))
    before = layers.BatchNormalization(momentum=0.9, name="before")(inner)
    down = layers.ReLU()(norm(adder(layers.ReLU()(before), 6, strides=2)))
    tensors = {
        "scores": layers.Activation("sigmoid", name="scores")(
            layers.Conv2D(2, 1, name="raw_scores")(down)
        ),
        "boxes": layers.Conv2D(4, 1, name="boxes")(down),
        "a/classes": layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(down)),
        "images": before,
    }
    return calibrated(keras.Model(x, tensors if form == "dict" else list(tensors.values())))


NAMES = {
    "dict": ["a/classes", "boxes", "images", "scores"],
    "list": ["scores", "boxes", "dense", "before"],
}
FORMS = pytest.mark.parametrize("form", ["dict", pytest.param("list", marks=pytest.mark.slow)])


@pytest.fixture(scope="module", name="build")
def _build():
    return functools.cache(detector)


def assert_gives(found, model, batch, tolerance):
    """The outputs of a file by name, against the network's."""
    expected = dict(zip(output_names(model), keras.tree.flatten(model(batch)), strict=True))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        error = np.abs(np.asarray(found[name]) - values).max() / np.abs(values).max()
        assert error < tolerance, name


@pytest.mark.parametrize("form", NAMES)
def test_names_of_outputs(form, build):
    model = build(form)
    assert output_names(model) == NAMES[form]
    fine_tuned = quantization.quantize_model(model, images(model, 8))
    assert output_names(fine_tuned) == NAMES[form]
    assert output_names(quantization.strip_quantization(fine_tuned)) == NAMES[form]


def test_names_of_one_output_and_of_one_tensor_twice():
    x = keras.Input((4, 4, 1))
    y = layers.ReLU(name="y")(x)
    other = layers.Flatten(name="y_1")(y)
    assert output_names(keras.Model(x, y)) == output_names(keras.Model(x, [y])) == ["logits"]
    assert output_names(keras.Model(x, {"only": y})) == ["only"]
    assert output_names(keras.Model(x, [y, y, other])) == ["y", "y_1", "y_1_1"]


@FORMS
@pytest.mark.parametrize("format", FLOAT_FORMATS)
def test_float_files_give_each_output_by_its_name(form, format, build):
    model = build(form)
    data = convert(model, format)
    network = Network(data, None if format == "portable" else delegate_library.path())
    batch = images(model, 3, seed=1)
    assert_gives(network(batch), model, batch, 1e-4)
    outputs = network.interpreter.get_signature_list()["serving_default"]["outputs"]
    assert sorted(outputs) == sorted(NAMES[form])


@FORMS
@pytest.mark.parametrize("fine_tuned", [False, True])
def test_int8_files_give_each_output_by_its_name(form, fine_tuned, build):
    model = build(form)
    batch = images(model, 32)
    if fine_tuned:
        model = quantization.quantize_model(model, batch)
    data, report = int8.make(model, batch, delegate_library.path())
    assert_gives(Network(data, delegate_library.path())(batch), model, batch, 0.1)
    assert list(report["outputs"]) == NAMES[form]
    compared = [output["difference"] for output in report["outputs"].values()]
    assert report["difference"] == max(compared) < (0.01 if fine_tuned else 0.03)
    random = np.random.default_rng(0)
    integers = random.integers(-128, 128, (2, 8, 8, 3)).astype(np.int8)
    found, reference = Network(data, delegate_library.path())(integers), int8.IntegerNetwork(data)
    for name, expected in reference(integers).items():
        np.testing.assert_array_equal(found[name], expected)


def test_a_saved_model_gives_each_output_by_its_name(build, tmp_path):
    model = build("dict")
    model.save(tmp_path / "m.keras")
    assert export_saved_model(tmp_path / "m.keras", tmp_path / "m") <= 1e-4
    batch = images(model, 3, seed=1)
    found = tf.saved_model.load(tmp_path / "m").signatures["serving_default"](tf.constant(batch))
    assert_gives(found, model, batch, 1e-4)


@pytest.mark.slow
def test_a_saved_model_of_which_one_output_differs_is_not_kept(build, tmp_path, monkeypatch):
    model = build("dict")
    model.save(tmp_path / "m.keras")
    load = tf.saved_model.load

    def changed(folder):
        loaded = load(folder)
        serve = loaded.signatures["serving_default"]
        others = {"serving_default": lambda x: {**serve(x), "boxes": serve(x)["boxes"] + 1}}
        return type("Loaded", (), {"signatures": others})

    monkeypatch.setattr(tf.saved_model, "load", changed)
    with pytest.raises(ExportError, match="Received: compared='serving_default, boxes', rel"):
        export_saved_model(tmp_path / "m.keras", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_report_says_each_and_the_worst(build, tmp_path):
    build("dict").save(tmp_path / "m.keras")
    report = export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite")
    assert list(report["outputs"]) == NAMES["dict"] and report["alive"]
    lines = verdict.sentences(report, None)
    assert lines[2].startswith("outputs 'boxes' equal the network's to ") and len(lines) == 5


def test_one_output_of_no_use_is_warned_of():
    good = {"difference": 0.01, "agreement": 0.9, "alive": True}
    report = {"outputs": {"boxes": good, "scores": {**good, "difference": 1.2}}}
    assert verdict.warning(report).endswith(
        "images its outputs 'scores' differ from the network's by 120.0% and give the same class "
        "for 90.0%"
    )
    assert verdict.warning({"outputs": {"boxes": good, "scores": good}}) is None


def test_operations_count_the_same_in_network_and_file(build):
    model = build("dict")
    found = [
        sum(record.multiplications + record.additions for record in records)
        for records in (keras_records(model), tflite_records(convert(model, "custom_op")))
    ]
    assert found[0] == found[1] > 0
    assert len(measure.inference(model)()) == 4


def test_ranges_of_several_outputs_are_those_of_the_tensors(build):
    model = build("list")
    batch = images(model, 16)
    fine_tuned = quantization.quantize_model(model, batch)
    assert set(NAMES["list"]) <= set(quantization.tensor_ranges(fine_tuned))
    stripped = quantization.strip_quantization(fine_tuned)
    for expected, found in zip(model(batch), stripped(batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nested", [{"a": ["y", "y"]}, ["y", {"a": "y"}]])
def test_structures_in_structures_are_refused(nested, tmp_path):
    x = keras.Input((4, 4, 1))
    y = layers.Flatten()(x)
    model = keras.Model(x, keras.tree.map_structure(lambda _: y, nested))
    model.save(tmp_path / "m.keras")
    message = r"or to a list or dict of tensors; .* outputs=\[\(None, 16\), \(None, 16\)\]"
    with pytest.raises(ExportError, match=message):
        load_network(tmp_path / "m.keras")
    with pytest.raises(ExportError, match="must map one tensor to one other, or to a list or dict"):
        convert(model, "portable")


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_programs_for_classifiers_refuse_them(kind, tmp_path):
    x = keras.Input((8, 8, 1))
    pair = [layers.Dense(10)(layers.Flatten()(x)) for _ in range(2)]
    model = keras.Model(x, pair if kind == "list" else dict(zip("ab", pair)))
    model.save(tmp_path / "m.keras")
    with pytest.raises(RunError, match=r"shapes=\[\(None, 10\), \(None, 10\)\], classes of digits"):
        networks.check_fits(model, pkkd_tf.data.load("digits"), "--teacher")
    path = str(tmp_path / "m.keras")
    with pytest.raises(ExportError, match="--student must take .* and knows 10, 10, digits has"):
        measuring.load_data(measuring.Setting(path, path, "digits"))


def test_names_of_a_file_without_a_signature_are_those_of_its_tensors(build):
    graph = Graph(convert(build("dict"), "portable"))
    graph.model.signatureDefs = None
    assert list(Network(graph.to_bytes()).outputs) == list(graph.outputs())


def test_a_sequential_network_that_ends_in_several_outputs(tmp_path):
    x = keras.Input((8, 8, 4))
    head = keras.Model(x, {"a": layers.Conv2D(2, 1)(x), "b": adder(x, 3)})
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same"), head])
    model.save(tmp_path / "m.keras")
    report = export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite", "custom_op")
    assert list(report["outputs"]) == output_names(model) == ["a", "b"]
    trained = quantization.quantize_model(model, images(model, 8))
    assert output_names(trained) == ["a", "b"]
