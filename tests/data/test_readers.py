import numpy as np
import pytest
import tensorflow_datasets as tfds

import pkkd_tf.data
from pkkd_tf.data.labels import CIFAR10, CIFAR100


def save(folder, split, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{split}_images.npy", images)
    np.save(folder / f"{split}_labels.npy", labels)


def random_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write_prepared(folder, name, version, names, count, file_format="tfrecord"):
    def examples(offset):
        for i in range(count):
            image = random_images(1, i + offset)[0]
            yield i, {"image": image, "label": i % len(names)}

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=folder,
        split_datasets={"train": examples(0), "test": examples(100)},
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=names),
            }
        ),
        file_format=file_format,
    )


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_prepared_folder_is_read_whole_and_the_newest_version_wins(tmp_path, file_format):
    write_prepared(tmp_path, "cifar10", "3.0.2", CIFAR10, 11)
    write_prepared(tmp_path, "cifar10", "3.0.10", CIFAR10, 12, file_format)
    data = pkkd_tf.data.load("cifar10", tmp_path, augmentation="none")
    assert (data.num_train, data.num_test, data.class_names) == (12, 12, CIFAR10)
    (images, labels), *_ = data.test(12)
    scale, mean, std = (np.array(data.preprocessing[k]) for k in ("scale", "mean", "std"))
    for image, label in zip(images.numpy(), labels.numpy()):
        expected = [(random_images(1, 100 + i)[0] * scale - mean) / std for i in range(12)]
        matches = [i for i in range(12) if np.allclose(image, expected[i], atol=1e-5)]
        assert len(matches) == 1 and matches[0] % 10 == label


def test_arrays_below_the_name_and_labels_in_a_column(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / "cifar100", split, random_images(8), np.full((8, 1), 99))
    data = pkkd_tf.data.load("cifar100", tmp_path)
    assert (data.num_classes, data.num_train, data.image_shape) == (100, 8, (32, 32, 3))
    assert data.class_names == CIFAR100
    assert next(iter(data.test(8)))[1].numpy().tolist() == [99] * 8


def test_class_names_are_complete():
    assert len(CIFAR10) == 10 and len(CIFAR100) == len(set(CIFAR100)) == 100
    assert list(CIFAR100) == sorted(CIFAR100)


def test_missing_data_say_what_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        pkkd_tf.data.load("cifar10", tmp_path / "no such")
    text = str(caught.value)
    assert f"tfds.load('cifar10', data_dir='{tmp_path}/no such')" in text
    assert f"Received: data_dir='{tmp_path}/no such', looked for" in text
    assert "cifar10/*/dataset_info.json" in text


def test_without_a_folder_the_one_of_tensorflow_datasets_is_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for split in ("train", "test"):
        save(tmp_path, split, random_images(4), np.arange(4))
    assert pkkd_tf.data.load("cifar10").num_train == 4


def test_half_a_data_set_is_an_error(tmp_path):
    save(tmp_path, "train", random_images(4), np.arange(4))
    with pytest.raises(FileNotFoundError, match=r"Received: folder=.* without test_images.npy"):
        pkkd_tf.data.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    "images, labels, text",
    [
        (random_images(4).astype(np.float32), np.arange(4), "dtype=float32, shape=(4, 32, 32, 3)"),
        (random_images(4)[:, :28], np.arange(4), "dtype=uint8, shape=(4, 28, 32, 3)"),
        (random_images(4), np.arange(3), "shape=(4, 32, 32, 3), labels of shape (3,)"),
        (random_images(0), np.arange(0), "shape=(0, 32, 32, 3), labels of shape (0,)"),
        (random_images(2), np.array([0, 10]), "Received: labels from 0 to 10 beside"),
        (random_images(2), np.array([-1, 1]), "Received: labels from -1 to 1 beside"),
        (random_images(2), np.array([0.7, 1.0]), "be whole numbers in 0..9. Received: labels from"),
        (random_images(2), np.array([np.nan, 1]), "Received: labels from nan to nan beside"),
    ],
)
def test_wrong_arrays_are_errors(tmp_path, images, labels, text):
    save(tmp_path, "train", images, labels)
    with pytest.raises(ValueError) as caught:
        pkkd_tf.data.load("cifar10", tmp_path)
    assert text in str(caught.value)
