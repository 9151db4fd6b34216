"""The Keras 2 twin, in a process of its own; here Keras 3 stays alone."""

import importlib.util
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import pkkd_tf
from export.tflite.interpreters import Network
from pkkd_tf import quantization

PROGRAM = ["-m", "export.tfmot_twin"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.slow
def test_program_says_what_it_needs():
    hidden = "import sys, runpy; sys.modules['tensorflow_model_optimization'] = None; "
    done = run("-c", hidden + "runpy.run_module('export.tfmot_twin', run_name='__main__')")
    assert done.returncode == 1
    assert re.search(r"^error: .* pip install '.\[tfmot\]'. Received: ", done.stderr, re.MULTILINE)


if importlib.util.find_spec("tensorflow_model_optimization"):

    @pytest.mark.slow
    def test_network_is_trained_and_converted(tmp_path):
        """All steps on digits: the file holds 8-bit numbers and is as good as what was trained."""
        data = pkkd_tf.data.load("digits")
        model = pkkd_tf.PKKD(pkkd_tf.models.build("digits_resnet"), method="plain", monitor_every=0)
        model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
        model.fit(data.train(64, epochs=4), verbose=0)
        quantization.reestimate_batch_norm(model.student, data.sample(512))
        network, output = tmp_path / "student.keras", tmp_path / "student.tflite"
        model.student.save(network)
        done = run(*PROGRAM, f"--model={network}", f"--output={output}", "--steps=30")
        assert done.returncode == 0, done.stderr
        lines = re.findall(r"^(.*?) +(\d+\.\d\d) % of 360 images$", done.stdout, re.MULTILINE)
        assert [name for name, _ in lines] == ["float", "trained, fake quantised", ".tflite file"]
        accuracies = [float(value) for _, value in lines]
        assert accuracies[0] > 80 and min(accuracies) > accuracies[0] - 8
        assert abs(accuracies[2] - accuracies[1]) < 1
        tensors = Network(output.read_bytes()).interpreter.get_tensor_details()
        assert sum(tensor["dtype"] == np.int8 for tensor in tensors) > 20
        assert keras.__version__.startswith("3.") and "tf_keras" not in sys.modules
