import keras
import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf.data
from pkkd_tf.data import augmentation
from pkkd_tf.data.rand_augment import RandAugment
from pkkd_tf.data.randomness import StatelessSeeds, fold

KEY = tf.constant([3, 4], tf.int64)
IDENTITY = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0}


def photos(count=16, size=24):
    """Smooth colour images with values in 0..255."""
    noise = tf.random.stateless_uniform((count, 4, 4, 3), (1, 2), 0, 255)
    return tf.image.resize(noise, (size, size), "bicubic").numpy().clip(0, 255)


def batch_augmentation(*names, num_classes=10, shape=(24, 24, 3)):
    return augmentation.BatchAugmentation(names, IDENTITY, shape, num_classes)


def test_names():
    assert augmentation.parse("standard") == ("standard",)
    assert augmentation.parse("none") == ()
    assert augmentation.parse(["standard", "cutmix"]) == ("standard", "cutmix")
    assert augmentation.parse(()) == ()


def test_stateless_seeds_are_a_function_of_the_key():
    layer = keras.layers.MixUp()
    layer.generator = seeds = StatelessSeeds()

    def draw(key):
        with seeds.bound_to(key):
            return layer.get_random_transformation(tf.zeros((8, 4, 4, 3)))["mix_weight"].numpy()

    first = draw(KEY)
    assert (draw(fold(KEY, 1)) != first).all()
    np.testing.assert_array_equal(draw(KEY), first)


@pytest.fixture(scope="module")
def rand_augment():
    return tf.function(RandAugment())


@pytest.mark.slow
def test_rand_augment_varies_within_the_batch_and_stays_in_range(rand_augment):
    images = np.repeat(photos(1), 64, axis=0)
    augmented = rand_augment(tf.constant(images), KEY).numpy()
    # Interpolation rounds a constant 255 up by a unit in the last place.
    assert augmented.min() >= 0 and augmented.max() < 255.001
    changed = np.abs(augmented - images).max(axis=(1, 2, 3)) > 0.5
    # An image keeps both identities with probability (1/14)^2.
    assert changed.mean() > 0.8
    assert len({image.tobytes() for image in augmented}) > 40


@pytest.mark.slow
def test_rand_augment_is_a_function_of_the_key(rand_augment):
    images = tf.constant(photos(64))
    first = rand_augment(images, KEY).numpy()
    np.testing.assert_array_equal(rand_augment(images, KEY).numpy(), first)
    assert (rand_augment(images, fold(KEY, 1)).numpy() != first).any()
    # Another object, run operation by operation; only the rounding may differ.
    np.testing.assert_allclose(RandAugment()(images, KEY).numpy(), first, atol=1e-2)


@pytest.mark.parametrize("operation", range(13))
def test_each_operation_of_rand_augment_changes_the_image(operation):
    layer, images = RandAugment(magnitude=1.0), tf.constant(photos(1))
    augmented = [
        layer._apply(tf.constant(operation), images, fold(KEY, i)).numpy() for i in range(3)
    ]
    assert all(np.isfinite(image).all() for image in augmented)
    assert all((image != images.numpy()).any() for image in augmented)


def test_the_last_operation_of_rand_augment_is_the_identity():
    images = tf.constant(photos(1))
    np.testing.assert_array_equal(RandAugment()._apply(tf.constant(13), images, KEY), images)


def test_random_erasing_sets_a_rectangle_of_half_the_images_to_the_mean():
    images = photos(200) + 1
    erased, _ = batch_augmentation("randomerasing")(images, tf.zeros(200, tf.int32), KEY)
    erased = erased.numpy()
    hit = (erased == 0).any(axis=(1, 2, 3))
    # 200 draws with probability 1/2: five deviations are 35.
    assert abs(hit.sum() - 100) < 35
    for image, original in zip(erased[hit], images[hit]):
        rows, columns, _ = np.nonzero(image == 0)
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == 0).all()
        np.testing.assert_array_equal(image[image != 0], original[image != 0])


def test_mixup_blends_images_and_labels_with_the_same_weight():
    labels = tf.range(10)
    images = np.zeros((10, 24, 24, 3), np.float32) + np.arange(10)[:, None, None, None]
    mixed, soft = batch_augmentation("mixup")(images, labels, KEY)
    np.testing.assert_allclose(soft.numpy().sum(1), 1, rtol=1e-6)
    # An image is its own label here, so the blend of the labels is the blend of the images.
    np.testing.assert_allclose(mixed[:, 0, 0, 0], soft.numpy() @ np.arange(10.0), rtol=1e-5)
    assert (soft.numpy().max(1) < 1).any()


def test_cutmix_weights_labels_by_area():
    images = np.zeros((50, 24, 24, 3), np.float32) + np.arange(50)[:, None, None, None]
    augment = batch_augmentation("cutmix", num_classes=50)
    mixed, soft = augment(images, tf.range(50), KEY)
    mixed, soft = mixed.numpy(), soft.numpy()
    assert set(np.unique(mixed)) <= set(range(50))
    own = (mixed[..., 0] == np.arange(50)[:, None, None]).mean(axis=(1, 2))
    # Labels go by the exact area of the rectangle, pixels by whole rows and columns.
    np.testing.assert_allclose(np.diag(soft), own, atol=2 / 24)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    assert np.isfinite(soft).all() and own.min() < 0.5 < own.max()


def test_mixup_and_cutmix_take_turns():
    augment = tf.function(batch_augmentation("mixup", "cutmix"))
    images = tf.constant(np.arange(10.0, dtype=np.float32)[:, None, None, None]) + tf.zeros(
        (10, 24, 24, 3)
    )
    whole = 0
    for i in range(40):
        mixed, _ = augment(images, tf.range(10), fold(KEY, i))
        whole += bool((mixed.numpy() == mixed.numpy()[:, :1, :1]).all())
    assert 5 < whole < 35


def test_mixed_labels_come_out_of_the_pipeline_as_rows():
    data = pkkd_tf.data.load("digits", augmentation=("standard", "mixup"))
    images, labels = next(iter(data.train(32)))
    assert data.one_hot and labels.dtype == tf.float32 and labels.shape == (32, 10)
    assert images.shape == (32, 8, 8, 1)
    assert next(iter(data.test(32)))[1].dtype == tf.int32
