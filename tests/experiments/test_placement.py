"""Where a run's batches are made."""

import pytest
import tensorflow as tf

import pkkd_tf.data
from experiments import placement
from experiments.errors import RunError
from pkkd_tf.data import ImageDataset
from pkkd_tf.data.resident import ResidentDataset

ONE_DEVICE = tf.distribute.get_strategy()


def place(asked, augmentation="standard", strategy=ONE_DEVICE):
    data = pkkd_tf.data.load("digits", augmentation=augmentation)
    options = {"data_placement": asked, "augmentation": [augmentation]}
    return placement.place(data, options, strategy)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])


@pytest.fixture
def one_gpu(monkeypatch):
    """TensorFlow says that there is a GPU; it is the processor."""
    devices = tf.config.list_logical_devices("CPU")[:1]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: devices)


@pytest.mark.parametrize("asked", ["auto", "host"])
def test_without_a_gpu_batches_are_made_on_the_host(asked, no_gpu):
    batches, prepare_batch = place(asked)
    assert isinstance(batches, ImageDataset) and prepare_batch is None


def test_the_device_may_be_the_processor(no_gpu):
    batches, prepare_batch = place("device")
    assert isinstance(batches, ResidentDataset)
    images, _ = prepare_batch(next(iter(batches.train(10))))
    assert images.shape == (10, 8, 8, 1) and images.device.endswith("CPU:0")


def test_auto_takes_the_gpu_where_it_can(one_gpu, two_replicas):
    assert isinstance(place("auto")[0], ResidentDataset)
    assert isinstance(place("host")[0], ImageDataset)
    assert isinstance(place("auto", strategy=two_replicas)[0], ImageDataset)


def test_device_says_why_it_cannot(two_replicas):
    with pytest.raises(RunError, match="Received: strategy=MirroredStrategy"):
        place("device", strategy=two_replicas)


def test_auto_stays_on_the_host_for_randaugment(one_gpu):
    data = pkkd_tf.data.load("digits")
    options = {"data_placement": "auto", "augmentation": ["standard", "randaugment"]}
    assert placement.place(data, options, ONE_DEVICE) == (data, None)
    with pytest.raises(RunError, match="no randaugment.*Received: augmentation=randaugment"):
        placement.place(data, {**options, "data_placement": "device"}, ONE_DEVICE)
