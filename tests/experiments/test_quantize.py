"""The program that takes bits from a trained network, run for real on digits."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import pkkd_tf
from experiments import evaluate, quantize
from experiments.errors import RunError
from pkkd_tf import quantization


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A digits network after a few epochs, as a file."""
    keras.utils.set_random_seed(0)
    data = pkkd_tf.data.load("digits")
    model = pkkd_tf.PKKD(pkkd_tf.models.build("digits_resnet"), method="plain", monitor_every=0)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
    model.fit(data.train(64, epochs=4), verbose=0)
    quantization.reestimate_batch_norm(model.student, data.sample(512))
    path = tmp_path_factory.mktemp("network") / "student.keras"
    model.student.save(path)
    return path


@pytest.mark.slow
def test_network_of_three_bits(network, tmp_path):
    """Accuracy falls, comes back, and the file holds what was measured."""
    output = tmp_path / "quantized"
    arguments = [f"--model={network}", f"--teacher={network}", f"--output={output}"]
    sizes = ["--bits=3", "--scale_groups=2", "--batch_size=64", "--norm_images=512"]
    command = [sys.executable, "-m", "experiments.quantize", "--dataset=digits", *arguments, *sizes]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, "--epochs=1", "--verbose=0"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(.*?) +(\d+\.\d\d) % of 360 images$", done.stdout, re.MULTILINE)
    assert [name for name, _ in lines] == list(quantize.STEPS)
    report = json.loads((output / "report.json").read_text())
    assert [step["name"] for step in report["runs"]] == list(quantize.STEPS)
    accuracies = [step["accuracy"] for step in report["runs"]]
    assert [f"{100 * a:.2f}" for a in accuracies] == [value for _, value in lines]
    assert accuracies[0] > 0.8 and min(accuracies[2:]) > accuracies[0] - 0.08
    model = keras.models.load_model(output / "quantized.keras")
    assert {entry["bits"] for entry in quantization.ranges(model).values()} == {3}
    assert max(len(e["ranges"]) for e in quantization.ranges(model).values()) == 2
    found = evaluate.accuracy(model, pkkd_tf.data.load("digits"), 64)
    assert found == pytest.approx(accuracies[-1])
    trained, given = (keras.models.load_model(p) for p in (output / "quantized.keras", network))
    filters = [m.get_layer("stage1_block1_conv1").kernel for m in (trained, given)]
    assert np.abs(np.subtract(*filters)).max() > 0
    assert "| fine-tuned |" in (output / "report.md").read_text()


def options(network, output, **more):
    values = {"seed": 0, "teacher": None, "dataset": "digits", "data_dir": None}
    return {**values, "model": str(network), "output": str(output), **more}


@pytest.mark.parametrize("name", ["quantized.keras", "report.json", "report.md"])
def test_existing_output_is_kept(tmp_path, name):
    """A training's report, too."""
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(RunError, match=f"must hold none of .* Received: output=.* holds {name}"):
        quantize.run(options("nowhere.keras", tmp_path))
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_output_that_cannot_be_written_is_seen_at_once(tmp_path, output):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(RunError, match="folder that can be made and written. .*/file cannot"):
        quantize.run(options("nowhere.keras", tmp_path / output))


def test_batches_that_are_too_large_are_seen_at_once(network, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "accuracy", lambda *_: pytest.fail("it measures"))
    sizes = {"epochs": 1, "batch_size": 128, "limit_train": 64, "image_size": None}
    with pytest.raises(ValueError, match="Received: .*128"):
        quantize.run(options(network, tmp_path, augmentation="none", **sizes))


def test_teachers_that_do_not_fit_are_seen_at_once(network, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "accuracy", lambda *_: pytest.fail("it measures"))
    pixels = keras.Input((8, 8, 1))
    teacher = keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(pixels)))
    teacher.save(tmp_path / "teacher.keras")
    sizes = {"batch_size": 8, "calibration_images": 8, "norm_images": 8, "limit_train": 8}
    how = {"augmentation": "none", "image_size": None, "bits": 8, "scale_groups": 1}
    how |= {"teacher": str(tmp_path / "teacher.keras"), "alpha": 1.0, "temperature": 1.0}
    with pytest.raises(ValueError, match="Received: .*7"):
        quantize.run(options(network, tmp_path, **sizes, **how, train_ranges=False, epochs=1))


@pytest.mark.slow
def test_no_step_is_measured_under_xla(network, tmp_path, monkeypatch):
    """Keras would choose it for all of them where there is a GPU."""
    found = []
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda model: True)

    def accuracy(model, *_):
        found.append(model.jit_compile)
        return 0.5

    monkeypatch.setattr(evaluate, "accuracy", accuracy)
    monkeypatch.setattr(quantize, "_write", lambda *_: None)
    sizes = {"batch_size": 8, "calibration_images": 8, "norm_images": 8, "limit_train": 8}
    how = {"augmentation": "none", "image_size": None, "bits": 8, "scale_groups": 1}
    quantize.run(options(network, tmp_path, **sizes, **how, train_ranges=False, epochs=0))
    assert found == [False] * 3


@pytest.mark.slow
def test_flags_that_would_do_nothing(tmp_path):
    command = [sys.executable, "-m", "experiments.quantize", "--model=x.keras", "--temperature=4"]
    done = subprocess.run([*command, f"--output={tmp_path}"], capture_output=True, text=True)
    rule = "error: --temperature needs --teacher, else it does nothing. Received: temperature=4.0"
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1] == rule


@pytest.mark.parametrize("flag", ["teacher", "train_ranges", "learning_rate"])
def test_fine_tuning_needs_epochs(flag):
    (need,) = [need for need in quantize.NEEDS if flag in need.names]
    assert need.rule == "--epochs of at least 1"
    assert need.holds({"epochs": 1}) and not need.holds({"epochs": 0})


@pytest.mark.parametrize("flag", ["model", "teacher"])
def test_missing_network(network, tmp_path, flag):
    message = f"--{flag} must be an existing .keras file. Received: {flag}=nowhere.keras"
    with pytest.raises(RunError, match=message):
        quantize.run(options(network, tmp_path, **{flag: "nowhere.keras"}))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_network_that_diverges_is_not_saved(network, tmp_path):
    """Its argmax would look like an accuracy."""
    options = {"model": str(network), "teacher": None, "dataset": "digits", "data_dir": None}
    options |= {"image_size": None, "seed": 0, "augmentation": "standard", "limit_train": 64}
    options |= {"batch_size": 32, "calibration_images": 32, "norm_images": 64, "bits": 8}
    options |= {"scale_groups": 1, "train_ranges": False, "epochs": 1, "learning_rate": 1e30}
    options |= {"alpha": 1.0, "temperature": 1.0, "verbose": 0, "output": str(tmp_path / "out")}
    with pytest.raises(RunError, match="Losses must stay finite"):
        quantize.run(options)
    assert not (tmp_path / "out").exists()
