"""Networks come back from `.keras` files, also in a process that only imports the package."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import pkkd_tf
from pkkd_tf import layers, models
from pkkd_tf.ops import compiled, use_path

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys
import numpy as np
import pkkd_tf
import keras
import tensorflow as tf
images, *files = sys.argv[1:]
x = np.load(images)
for file in files:
    for load in (keras.models.load_model, tf.keras.models.load_model):
        np.testing.assert_array_equal(load(file).predict(x, verbose=0), np.load(file + ".npy"))
"""
READER = """
import sys
import numpy as np
import keras
import tensorflow as tf
from pkkd_tf.ops import compiled
available = compiled.load() is not None
x = np.load("images.npy")
outputs = {"available": available}
for path in sys.argv[2:]:
    outputs[path + ".keras"] = keras.models.load_model(path + ".keras").predict(x, verbose=0)
    try:
        module = tf.saved_model.load(path)
        outputs[path] = module.serve(tf.constant(x))
    except RuntimeError as error:
        outputs[path] = str(error)
np.savez(sys.argv[1], **outputs)
"""
PATHS = ["reference", *(["compiled"] if compiled.is_available() else [])]


@pytest.mark.parametrize(
    "name", ["digits_resnet", "vgg_small", pytest.param("resnet50", marks=pytest.mark.slow)]
)
def test_config_round_trip(name):
    shape = (64, 64, 3) if name == "resnet50" else None
    model = models.build(name, num_classes=7, input_shape=shape, input_gradient="sign")
    again = keras.Model.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def images(folder):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype("float32")
    np.save(folder / "images.npy", x)
    return x


@pytest.mark.slow
def test_keras_files_load_in_a_fresh_process(tmp_path):
    x = images(tmp_path)
    files = []
    for kind in ("adder", "convolution"):
        model = models.build("digits_resnet", kind)
        for variable in model.non_trainable_variables:  # norm statistics that a reload could lose
            variable.assign(variable + 0.5)
        files.append(str(tmp_path / f"{kind}.keras"))
        model.save(files[-1])
        np.save(files[-1] + ".npy", model.predict(x, verbose=0))
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "images.npy"), *files],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert program.returncode == 0, program.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network of all layers as .keras file and SavedModel, written on each path; its outputs."""
    folder = tmp_path_factory.mktemp("written")
    adders = layers.AdderConv2D(4, 3), layers.AdderDepthwiseConv2D(3), layers.AdderDense(3)
    flat = keras.layers.BatchNormalization(), keras.layers.Flatten()
    model = keras.Sequential([keras.Input((8, 8, 1)), *adders[:2], *flat, adders[2]])
    x = images(folder)
    for path in PATHS:
        with use_path(path):
            again = keras.models.clone_model(model)
            again.set_weights(model.get_weights())
            outputs = again.predict(x, verbose=0)
            again.save(folder / f"{path}.keras")
            again.export(folder / path, verbose=False)
    return folder, outputs


def read(written, name, packages, **environment):
    """What a fresh process with the packages in the folder `packages` reads."""
    folder, _ = written
    done = subprocess.run(
        [sys.executable, "-c", READER, f"{name}.npz", *PATHS],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(packages), **environment},
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / f"{name}.npz")), done.stderr


def assert_outputs(written, outputs, names):
    for name in names:
        # float32 sums in another order, through three adder layers
        np.testing.assert_allclose(outputs[name], written[1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["auto", "reference"])
def test_every_file_loads_where_the_operation_is(written, way):
    outputs, _ = read(written, way, ROOT, PKKD_TF_OPS=way)
    assert bool(outputs["available"]) == compiled.is_available()
    assert_outputs(written, outputs, [*PATHS, *(f"{path}.keras" for path in PATHS)])


@pytest.mark.slow
def test_without_the_operation_only_its_own_saved_models_do_not_load(written, tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(os.path.dirname(pkkd_tf.__file__), tmp_path / "pkkd_tf", ignore=ignored)
    outputs, stderr = read(written, "without", tmp_path)
    assert not outputs["available"]
    assert stderr.count("Build it with `python -m custom_ops.build`") == 1
    assert_outputs(written, outputs, ["reference", *(f"{path}.keras" for path in PATHS)])
    if "compiled" in PATHS:
        assert "Op type not registered 'PkkdAdderConv2D" in str(outputs["compiled"])
