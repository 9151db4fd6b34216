"""Folders and record files as users have them: links in circles, empty, mislabelled, damaged."""

import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import pkkd_tf.data
from experiments import errors
from pkkd_tf.data.class_folders import find_class_folders


def jpeg(red):
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = red
    return tf.io.encode_jpeg(image, quality=100).numpy()


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in ("a b", "straße"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / split / name / f"ünï çödé {i} 'x\".jpg").write_bytes(jpeg(60 * i))
    return tmp_path


def names(files):
    return [os.path.basename(os.fsdecode(p)) for p in files.paths]


def test_links_in_circles_end(folder):
    classes = folder / "train" / "a b"
    os.symlink(classes, classes / "self.jpg")
    os.symlink("loop2.jpg", classes / "loop1.jpg")
    os.symlink("loop1.jpg", classes / "loop2.jpg")
    os.symlink("nowhere.jpg", classes / "dangling.jpg")
    os.symlink(folder / "train", classes / "up")
    os.symlink(classes / "ünï çödé 0 'x\".jpg", classes / "link.jpg")
    train, _, class_names = find_class_folders(folder, None)
    assert class_names == ("a b", "straße")
    assert len(train.paths) == 9 and "link.jpg" in names(train)


def test_a_circle_among_the_class_folders_is_no_class(folder):
    os.symlink("circle", folder / "train" / "circle")
    os.symlink(folder / "train", folder / "val" / ".hidden")
    assert find_class_folders(folder, 2)[2] == ("a b", "straße")


def test_folders_and_pipes_named_as_images_are_no_images(folder):
    (folder / "train" / "a b" / "folder.jpg").mkdir()
    os.mkfifo(folder / "train" / "a b" / "pipe.jpg")
    assert len(find_class_folders(folder, None)[0].paths) == 8


def test_names_that_are_no_text(folder):
    """Bytes that are not UTF-8, line breaks and leading dashes."""
    odd = [b"\xff\xfe.jpg", b"two\nlines.jpg", b"--flag.jpg", b"%s{}.JPG", b"\xf0\x9f\x8c\xbc.jpeg"]
    for name in odd:
        with open(os.path.join(os.fsencode(folder / "train" / "a b"), name), "wb") as file:
            file.write(jpeg(200))
    data = pkkd_tf.data.load("imagenet", folder, image_size=16)
    assert data.num_train == 13
    assert sum(len(labels) for _, labels in data.train(1, epochs=1)) == 13


def test_thousands_of_files(tmp_path):
    for split, count in (("train", 2000), ("val", 1)):
        for c in range(3):
            (tmp_path / split / f"c{c}").mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / f"c{c}" / f"{i}.jpg").touch()
    train, val, _ = find_class_folders(tmp_path, 3)
    assert (len(train.paths), len(val.paths)) == (6000, 3)
    assert names(train)[:3] == ["0.jpg", "1.jpg", "10.jpg"]
    np.testing.assert_array_equal(np.bincount(train.labels), [2000] * 3)


def write_records(folder, file_format="tfrecord", count=10):
    """Ten examples as tensorflow-datasets prepares ImageNet; returns the training file."""

    def examples(split):
        for i in range(count):
            image = folder / f"{split} {i}.jpg"
            image.write_bytes(jpeg(20 * i))
            yield i, {"file_name": image.name, "image": str(image), "label": i % 2}

    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=("one", "two")),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        data_dir=folder,
        split_datasets={split: examples(split) for split in ("train", "validation")},
        features=tfds.features.FeaturesDict(features),
        file_format=file_format,
    )
    (file,) = (folder / "imagenet2012").glob(f"*/*-train.{file_format}*")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("damage", ["corrupted", "truncated"])
def test_a_damaged_record_file_ends_a_run_with_a_sentence(tmp_path, capsys, damage, skip):
    """Nothing behind the damage can be trusted, so it is not passed over."""
    file = write_records(tmp_path)
    capsys.readouterr()
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents if damage == "corrupted" else contents[: len(contents) // 2 - 3])
    code = errors.exit_code(lambda: train(tmp_path, skip_broken_images=skip))
    text = capsys.readouterr().err
    assert code == errors.EXIT_ERROR
    assert text.startswith("error: Every TFRecord file must be as it was written;")
    assert f"Received: {damage} record at " in text and text.count("\n") == 1


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description_of_records_is_a_sentence(tmp_path, capsys, name):
    write_records(tmp_path)
    capsys.readouterr()
    (file,) = (tmp_path / "imagenet2012").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:100])
    assert errors.exit_code(lambda: train(tmp_path)) == errors.EXIT_ERROR
    text = capsys.readouterr().err
    assert text.startswith("error: A prepared tensorflow-datasets folder must hold dataset_info")
    assert f"Received: {file.parent}, " in text and text.count("\n") == 1


def test_another_file_format_is_named(tmp_path):
    write_records(tmp_path, "parquet")
    match = "must hold TFRecord or array_record files.*file_format='parquet'"
    with pytest.raises(ValueError, match=match):
        train(tmp_path)


def flipped(contents, place):
    return contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :]


ARRAY_RECORD_DAMAGE = {
    "corrupted": lambda contents: flipped(contents, contents.index(b"\xff\xd8\xff") + 300),
    "torn": lambda contents: contents[: len(contents) // 2],
    "end missing": lambda contents: contents[:-3],
    "empty": lambda contents: b"",
    "text": lambda contents: b"no records " * 10000,
    "gone": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ARRAY_RECORD_DAMAGE)
def test_a_damaged_array_record_file_ends_a_run_with_its_name(tmp_path, capfd, kind, skip):
    file = write_records(tmp_path, "array_record")
    damage = ARRAY_RECORD_DAMAGE[kind]
    file.write_bytes(damage(file.read_bytes())) if damage else file.unlink()
    capfd.readouterr()
    assert errors.exit_code(lambda: train(tmp_path, skip_broken_images=skip)) == errors.EXIT_ERROR
    text = capfd.readouterr().err
    assert text.startswith("error: Every array_record file must be as it was written;")
    assert f"Received: {file}, " in text and text.count("\n") == 1


def test_an_array_record_file_of_another_length_is_named(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, count in ((one, 10), (other, 9)):
        folder.mkdir()
        file = write_records(folder, "array_record", count)
    target = next((one / "imagenet2012").glob("*/*-train.array_record*"))
    target.write_bytes(file.read_bytes())
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        train(one)
    assert f"Received: {target}, 9 records instead of 10" in str(caught.value)


ARRAYS = {
    "empty": (b"", "must be what numpy.save wrote"),
    "text": (b"no array", "must be what numpy.save wrote"),
    "pickled objects": (pickle.dumps({}), "must be what numpy.save wrote"),
    "strings": (np.array(["a"]), "must hold one array of numbers"),
    "objects": (np.array([{}], object), "must be what numpy.save wrote"),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("part", ["images", "labels"])
def test_damaged_arrays_are_named(tmp_path, kind, part):
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}_images.npy", np.zeros((2, 32, 32, 3), np.uint8))
        np.save(tmp_path / f"{split}_labels.npy", np.array([0, 1]))
    contents, sentence = ARRAYS[kind]
    path = tmp_path / f"train_{part}.npy"
    path.write_bytes(contents) if isinstance(contents, bytes) else np.save(path, contents)
    with pytest.raises(ValueError, match=f"{sentence}. Received: {path}, "):
        pkkd_tf.data.load("cifar10", tmp_path)


DAMAGE = {
    "empty": b"",
    "text": b"this is no photo",
    "png signature": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "jpeg of huge size": jpeg(0).replace(b"\x00\x28\x00\x3c", b"\xff\xff\xff\xff", 1),
    "webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_on_a_damaged_image_ends_with_its_name(folder, tmp_path, kind, capsys):
    path = folder / "train" / "a b" / "damaged photo.jpg"
    path.write_bytes(DAMAGE[kind])
    assert errors.exit_code(lambda: train(folder)) == errors.EXIT_ERROR
    text = capsys.readouterr().err
    assert text.startswith("error: Every image must be a complete JPEG")
    assert f"Received: image='{path}' ({len(DAMAGE[kind])} bytes)" in text
    assert text.count("\n") == 1


def train(folder, **arguments):
    data = pkkd_tf.data.load("imagenet", folder, image_size=16, **arguments)
    for _ in data.train(data.num_train, epochs=1):
        pass
