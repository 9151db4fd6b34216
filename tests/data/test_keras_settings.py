"""Batches are float32, channels last and the same bits whatever Keras' global settings are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf.data
from pkkd_tf.data import augmentation
from pkkd_tf.data.rand_augment import RandAugment

SETTINGS = {
    "mixed_bfloat16": lambda: keras.config.set_dtype_policy("mixed_bfloat16"),
    "mixed_float16": lambda: keras.config.set_dtype_policy("mixed_float16"),
    "channels_first": lambda: keras.config.set_image_data_format("channels_first"),
    "float16": lambda: keras.config.set_floatx("float16"),
    "float64": lambda: keras.config.set_floatx("float64"),
}
KEY = tf.constant([3, 4], tf.int64)


@pytest.fixture(params=SETTINGS)
def setting(request):
    """Makes the setting when called."""
    before = keras.config.image_data_format(), keras.config.floatx()
    yield SETTINGS[request.param]
    keras.config.set_image_data_format(before[0])
    keras.config.set_floatx(before[1])
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        np.save(folder / f"{split}_images.npy", draw.integers(0, 256, (12, 32, 32, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(12) % 10)
    return folder


def assert_same(made, expected):
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def augmented(folder, name):
    """One batch, operation by operation."""
    preprocessing = pkkd_tf.data.PREPROCESSING["cifar10"]
    augment = augmentation.BatchAugmentation((name,), preprocessing, (32, 32, 3), 10)
    return augment(tf.constant(np.load(folder / "train_images.npy")), tf.range(12) % 10, KEY)


@pytest.mark.parametrize("name", augmentation.NAMES)
def test_each_augmentation(folder, name, setting):
    expected = augmented(folder, name)
    assert expected[0].dtype == tf.float32
    setting()
    assert_same(augmented(folder, name), expected)


def batches(folder, names, on_device):
    data = pkkd_tf.data.load("cifar10", folder, augmentation=names)
    if not on_device:
        return next(iter(data.train(12))) + next(iter(data.test(12)))
    resident = data.on_device("CPU:0")
    prepare = tf.function(resident.prepare_batch)
    return prepare(next(iter(resident.train(12)))) + prepare(next(iter(resident.test(12))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, on_device",
    [
        (("standard", "randaugment"), False),
        (("standard", "randomerasing", "mixup"), False),
        (("standard", "randomerasing", "mixup"), True),
        (("standard", "randomerasing", "cutmix"), False),
        (("standard", "randomerasing", "cutmix"), True),
    ],
)
def test_batches_of_the_host_and_of_the_device(folder, names, on_device, setting):
    expected = batches(folder, names, on_device)
    setting()
    made = batches(folder, names, on_device)
    assert [part.dtype.name for part in made] == ["float32", made[1].dtype.name, "float32", "int32"]
    assert_same(made, expected)


def each_operation(images):
    """Every operation of randaugment on the images; the draws are those of one key."""
    rand_augment = RandAugment()
    identity = len(rand_augment._layers)
    return [rand_augment._apply(tf.constant(i), images, KEY) for i in range(identity + 1)]


def test_each_operation_of_randaugment(folder, setting):
    images = tf.constant(np.load(folder / "train_images.npy")[:2], tf.float32)
    expected = each_operation(images)
    setting()
    assert_same(each_operation(images), expected)


def test_the_settings_stay_the_callers(folder, setting):
    setting()
    before = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    augmented(folder, "mixup")
    after = keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy()
    assert after == before
