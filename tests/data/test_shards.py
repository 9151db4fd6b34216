"""Parts of batches: what several workers make is, put together, what one process makes."""

import numpy as np
import pytest
import tensorflow as tf
from test_records import FORMATS, folders  # noqa: F401

import pkkd_tf.data
from tests.networks import mostly_slow


def collect(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


KINDS = ("digits", "files", *FORMATS)


def load(kind, folders, tmp_path):  # noqa: F811
    if kind == "digits":
        return pkkd_tf.data.load("digits", seed=3, limit_train=22)
    if kind in FORMATS:
        return pkkd_tf.data.load(
            "imagenet", folders[kind][0], image_size=32, seed=3, limit_train=22
        )
    for split, count in (("train", 22), ("val", 5)):
        for i in range(count):
            path = tmp_path / split / f"n0{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            path.write_bytes(tf.io.encode_png(pixels).numpy())
    return pkkd_tf.data.load("imagenet", tmp_path, image_size=32, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_batches_make_up_the_batches(kind, folders, tmp_path):  # noqa: F811
    data = load(kind, folders, tmp_path)  # 22 images: 2 batches of 8 and a rest of 6
    whole = collect(data.train(8, epochs=2, start_step=1))
    parts = [collect(data.train(8, 2, 0, 1, shard=(i, 4))) for i in range(4)]
    assert len(whole) == 3 and all(len(part) == 3 for part in parts)
    for batch, *pieces in zip(whole, *parts):
        for column in (0, 1):
            joined = np.concatenate([piece[column] for piece in pieces])
            np.testing.assert_array_equal(joined, batch[column])


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "tfrecord"))
def test_parts_of_the_test_set_hold_every_image_once(kind, folders, tmp_path):  # noqa: F811
    data = load(kind, folders, tmp_path)
    images, labels = (np.concatenate(c) for c in zip(*collect(data.test(4))))
    for i in range(3):
        part = [np.concatenate(c) for c in zip(*collect(data.test(4, shard=(i, 3))))]
        np.testing.assert_array_equal(part[0], images[i::3])
        np.testing.assert_array_equal(part[1], labels[i::3])


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "files"))
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_number_of_test_batches_is_known(kind, batch, folders, tmp_path):  # noqa: F811
    """Keras warns of an end that it cannot foresee."""
    data = load(kind, folders, tmp_path)
    for shard in ((0, 1), *((i, 3) for i in range(3))):
        batches = data.test(batch, shard=shard)
        assert batches.cardinality() == len(list(batches)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_parts_are_full_where_broken_images_are_left_out(kind, folders):  # noqa: F811
    folder = folders[kind][1]
    data = pkkd_tf.data.load("imagenet", folder, image_size=32, skip_broken_images=True)
    parts = [collect(data.train(8, 2, shard=(i, 2))) for i in range(2)]
    assert [[len(labels) for _, labels in part] for part in parts] == [[4] * 6] * 2


def test_augmentation_of_whole_batches_draws_for_each_part():
    data = pkkd_tf.data.load("digits", augmentation="mixup")
    first, second = (collect(data.train(8, shard=(i, 2)).take(1))[0] for i in range(2))
    weights = [np.sort(labels, axis=1)[:, -1] for _, labels in (first, second)]
    mixed = np.maximum(*weights) < 1  # two images of one class have no weights
    assert first[0].shape == (4, 8, 8, 1) and mixed.any()
    assert not np.allclose(*(own[mixed] for own in weights))
    again = collect(data.train(8, shard=(1, 2)).take(1))[0]
    np.testing.assert_array_equal(second[0], again[0])


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 3), (0, 0)])
def test_impossible_shards_are_refused(shard):
    data = pkkd_tf.data.load("digits")
    with pytest.raises(ValueError, match=r"A shard must be .*Received: shard=.*batch_size=8"):
        data.train(8, shard=shard)
