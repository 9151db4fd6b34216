"""The program that measures a network on test images."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

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
    with pytest.raises(
        RunError, match=r"Received: output shapes=\[\(None, 7\)\], classes of digits=10"
    ):
        program.run({**given, "limit_train": None})


def classifier(path, shape):
    image = keras.Input(shape)
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))
    keras.Model(image, logits).save(path)
    return str(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two photos for training and two for testing, of two classes."""
    root = tmp_path_factory.mktemp("photos")
    for split, name in itertools.product(("train", "val"), ("a", "b")):
        (root / split / name).mkdir(parents=True)
        photo = np.full((40, 60, 3), 50 if name == "a" else 200, np.uint8)
        (root / split / name / "0.jpg").write_bytes(tf.io.encode_jpeg(photo).numpy())
    return str(root)


@pytest.mark.parametrize(
    "shape, asked, expected",
    [((32, 32, 3), None, 32), ((None, None, 3), None, 224), ((None, None, 3), 16, 16)],
)
def test_photos_come_in_the_networks_size(folders, tmp_path, monkeypatch, shape, asked, expected):
    monkeypatch.setattr(evaluate, "accuracy", lambda network, data, _: data.image_shape[0] / 1000)
    model = classifier(tmp_path / "model.keras", shape)
    given = options(model=model, dataset="imagenet", data_dir=folders, image_size=asked)
    assert evaluate.run(given) == expected / 1000


@pytest.mark.slow
def test_accuracy_on_photos(folders, tmp_path):
    model = classifier(tmp_path / "model.keras", (32, 32, 3))
    assert evaluate.run(options(model=model, dataset="imagenet", data_dir=folders)) in (0, 0.5, 1)


@pytest.mark.parametrize("program", [evaluate, quantize])
@pytest.mark.parametrize("shape, asked", [((32, 32, 3), 64), ((32, 16, 3), None), ((9, 9, 1), 9)])
def test_networks_of_other_images_are_refused(
    program, folders, tmp_path, monkeypatch, shape, asked
):
    monkeypatch.setattr(evaluate, "accuracy", lambda *_: pytest.fail("it measures"))
    model = classifier(tmp_path / "model.keras", shape)
    given = options(model=model, dataset="imagenet", data_dir=folders, image_size=asked)
    given |= {"output": str(tmp_path / "out"), "teacher": None, "augmentation": "none"}
    size = asked or 224
    found = rf"input shape=\(None, {shape[0]}, .*, images of imagenet=\({size}, {size}, 3\)"
    with pytest.raises(RunError, match=f"--model must be a network for images .* {found}"):
        program.run({**given, "epochs": 0, "seed": 0, "limit_train": None})


def test_grey_images_may_lack_the_channel(tmp_path):
    pixels = keras.Input((8, 8))
    network = keras.Model(pixels, keras.layers.Dense(10)(keras.layers.Flatten()(pixels)))
    network.save(tmp_path / "model.keras")
    given = options(model=str(tmp_path / "model.keras"), dataset="digits")
    assert 0 <= evaluate.run(given) <= 1


def test_what_is_no_network_is_refused():
    training = pkkd_tf.PKKD(pkkd_tf.models.build("digits_resnet"), method="plain")
    with pytest.raises(RunError, match=r"must be a network for images .* input shape=\(\)"):
        networks.check_fits(training, pkkd_tf.data.load("digits"), "--model")
