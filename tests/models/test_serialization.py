"""Networks come back from `.keras` files, also in a process that only imports the package."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from pkkd_tf import models

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


@pytest.mark.parametrize("name", ["digits_resnet", "vgg_small", "resnet50"])
def test_config_round_trip(name):
    shape = (64, 64, 3) if name == "resnet50" else None
    model = models.build(name, num_classes=7, input_shape=shape, input_gradient="sign")
    again = keras.Model.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def test_keras_files_load_in_a_fresh_process(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype("float32")
    np.save(tmp_path / "images.npy", x)
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
