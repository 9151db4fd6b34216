"""The program that measures a network on test images."""

import keras
import numpy as np
import pytest

import pkkd_tf
from experiments import evaluate, networks, quantize
from experiments.errors import RunError
from pkkd_tf import pretrained


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Keras chooses XLA for every model that nobody has decided about."""
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda model: True)


def options(**changed):
    given = {"model": "resnet20_cifar10", "dataset": "cifar10", "data_dir": None}
    return {**given, "image_size": None, "batch_size": 7, **changed}


@pytest.mark.slow
def test_accuracy_of_a_network_that_comes_with_the_package(tmp_path, capsys):
    """Images whose labels are the network's own classes, but for every fourth."""
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    how = pkkd_tf.data.PREPROCESSING["cifar10"]
    network = pkkd_tf.load_pretrained("resnet20_cifar10")
    logits = network((images * how["scale"] - how["mean"]) / how["std"])
    labels = (np.argmax(logits, -1) + (np.arange(20) % 4 == 0)) % 10
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}_images.npy", images)
        np.save(tmp_path / f"{split}_labels.npy", labels)
    assert evaluate.run(options(data_dir=str(tmp_path))) == 0.75
    assert capsys.readouterr().out == "75.00 % of 20 test images\n"


def test_networks_are_loaded_without_xla(as_on_a_gpu):
    assert keras.Sequential([keras.layers.Dense(1)]).jit_compile
    name = "resnet20_cifar10"
    loaded = networks.load(pretrained.pretrained_path(name), "--model")
    assert not loaded.jit_compile and not pkkd_tf.load_pretrained(name).jit_compile


def test_file_that_is_not_there():
    with pytest.raises(
        RunError, match="--model must be an existing .keras file. Received: model=other"
    ):
        evaluate.run(options(model="other"))


@pytest.mark.parametrize("program", [evaluate, quantize])
def test_networks_of_other_classes_are_refused(program, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "accuracy", lambda *_: pytest.fail("it measures"))
    pixels = keras.Input((8, 8, 1))
    network = keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(pixels)))
    network.save(tmp_path / "seven.keras")
    given = options(model=str(tmp_path / "seven.keras"), dataset="digits", epochs=0, seed=0)
    given |= {"output": str(tmp_path / "out"), "teacher": None, "augmentation": "none"}
    with pytest.raises(RunError, match=r"Received: output shape=\(None, 7\), classes of digits=10"):
        program.run({**given, "limit_train": None})
