"""Batches made on the device: those of the host bit for bit, with nothing left for the host."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf.data
from benchmarks import gpu_placement
from pkkd_tf import PKKD
from pkkd_tf.data import augmentation

AUGMENTATIONS = [
    "none",
    "standard",
    "mixup",
    ("standard", "cutmix"),
    ("standard", "randomerasing"),
    ("standard", "randomerasing", "mixup", "cutmix"),
]

DEVICES = ["CPU:0", *(["GPU:0"] if tf.config.list_physical_devices("GPU") else [])]


def cifar_dir(folder):
    draw = np.random.default_rng(0)
    for split, count in (("train", 96), ("test", 37)):
        np.save(folder / f"{split}_images.npy", draw.integers(0, 256, (count, 32, 32, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", draw.integers(0, 10, count))
    return folder


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = cifar_dir(tmp_path_factory.mktemp("cifar"))

    def with_augmentation(names):
        return pkkd_tf.data.load("cifar10", folder, augmentation=names)

    return with_augmentation


def assert_same(resident, plans, batches):
    prepare = tf.function(resident.prepare_batch, reduce_retracing=True)
    assert plans.cardinality() == batches.cardinality() > 0
    for plan, batch in zip(plans, batches, strict=True):
        for made, expected in zip(prepare(plan), batch, strict=True):
            assert made.dtype == expected.dtype
            np.testing.assert_array_equal(made, expected)


def test_every_augmentation_is_either_tried_here_or_refused():
    tried = {n for names in AUGMENTATIONS for n in augmentation.parse(names)}
    assert tried | {"randaugment"} == set(augmentation.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("names", AUGMENTATIONS, ids=str)
def test_training_batches_are_the_hosts_from_the_middle_of_an_epoch_on(load, names, device):
    data = load(names)
    resident = data.on_device(device)
    place = {"epochs": 2, "start_epoch": 0, "start_step": 2}
    assert_same(resident, resident.train(24, **place), data.train(24, **place))


@pytest.mark.slow
def test_each_part_of_a_batch_is_the_hosts(load):
    data = load(("standard", "mixup"))
    resident = data.on_device("CPU:0")
    assert_same(resident, resident.train(48, shard=(1, 2)), data.train(48, shard=(1, 2)))
    assert_same(resident, resident.test(7, shard=(1, 2)), data.test(7, shard=(1, 2)))


@pytest.mark.parametrize("device", DEVICES)
def test_test_batches_are_the_hosts_the_smaller_last_one_too(load, device):
    data = load("standard")
    resident = data.on_device(device)
    assert_same(resident, resident.test(25), data.test(25))


def test_what_travels_is_small(load):
    data = load("standard")
    plan = next(iter(data.on_device("CPU:0").train(96)))
    assert sum(tf.size(part).numpy() * 8 for part in tf.nest.flatten(plan)) == 96 * 32


def test_arguments_are_checked_as_the_data_sets_own(load):
    resident = load("standard").on_device("CPU:0")
    with pytest.raises(ValueError, match="between 1 and the number.*batch_size=97"):
        resident.train(97)
    with pytest.raises(ValueError, match="start inside of its epochs.*start_step=4"):
        resident.train(24, start_step=4)
    with pytest.raises(ValueError, match="at least 1. Received: batch_size=0"):
        resident.test(0)


def test_what_a_data_set_tells_is_told_of_its_images_on_the_device_too():
    data = pkkd_tf.data.load("digits", augmentation="mixup", seed=3, limit_train=100)
    resident = data.on_device("CPU:0")
    documented = re.findall(r"^ {8}(\w+): ", data.__class__.__base__.__doc__, re.MULTILINE)
    assert len(documented) == 9 and resident.one_hot and resident.num_train == 100
    for name in (*documented, "num_broken"):
        assert getattr(resident, name) == getattr(data, name)
    offered = {name for name in dir(pkkd_tf.data.ImageDataset) if not name.startswith("_")}
    made_of = {"span", "places"}  # by `train`
    assert offered - made_of <= {*dir(resident)}
    assert resident.steps_per_epoch(32) == data.steps_per_epoch(32) == 3
    np.testing.assert_array_equal(resident.sample(5), data.sample(5))
    with pytest.raises(ValueError, match="Received: batch_size=101, num_train=100"):
        resident.steps_per_epoch(101)


def test_randaugment_is_refused(tmp_path):
    data = pkkd_tf.data.load("cifar10", cifar_dir(tmp_path), augmentation="randaugment")
    with pytest.raises(ValueError, match="every augmentation but randaugment.*device='CPU:0'"):
        data.on_device("CPU:0")


def test_other_data_than_its_own_is_refused():
    resident = pkkd_tf.data.load("digits").on_device("CPU:0")
    with pytest.raises(ValueError, match="own train and test yield. Received: tuple"):
        resident.prepare_batch((tf.zeros((2, 8, 8, 1)), tf.zeros(2)))


@pytest.mark.skipif(
    not gpu_placement.has_gpu_kernels(), reason="this TensorFlow knows no GPU kernels"
)
@pytest.mark.parametrize("names", AUGMENTATIONS, ids=str)
def test_a_gpu_does_all_of_it_and_sends_nothing_back(load, names):
    resident = load(names).on_device("CPU:0")

    def consumed(plan):
        images, labels = resident.prepare_batch(plan)
        return images, tf.cast(labels, tf.float32)  # as a loss does

    for plans in (resident.train(24), resident.test(25)):
        found = gpu_placement.analyse(
            tf.function(consumed).get_concrete_function(plans.element_spec)
        )
        assert found.operations >= 8
        assert not found.on_host and not found.to_host


def trained(data, prepare_batch, **execution):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=2)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    student = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    model = PKKD(student, method="plain", monitor_every=0)
    model.compile(keras.optimizers.SGD(0.1, 0.9), prepare_batch=prepare_batch, **execution)
    logs = model.fit(
        data.train(100, epochs=3, start_step=4),
        epochs=3,
        steps_per_epoch=12,
        validation_data=data.test(100),
        verbose=0,
        shuffle=False,
    )
    return model.get_weights(), logs.history


@pytest.mark.slow
@pytest.mark.parametrize("execution", [{}, {"steps_per_execution": 4}], ids=str)
def test_a_training_ends_with_the_same_weights_and_logs(execution):
    data = pkkd_tf.data.load("digits", augmentation=("standard", "mixup"))
    resident = data.on_device("CPU:0")
    weights, logs = trained(resident, resident.prepare_batch, **execution)
    expected_weights, expected_logs = trained(data, None, **execution)
    assert logs == expected_logs
    for ours, theirs in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
