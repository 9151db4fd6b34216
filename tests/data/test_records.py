"""ImageNet as tensorflow-datasets prepares it, in both formats of its files."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import pkkd_tf.data
from pkkd_tf.data import records
from pkkd_tf.data.array_records import ArrayRecords

FORMATS = ("tfrecord", "array_record")
NAMES = ("n01", "n02", "n03")


def jpeg(red):
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = red
    return tf.io.encode_jpeg(image, quality=100).numpy()


def write_prepared(folder, source, file_format, count=30, broken=()):
    """tensorflow-datasets stores the JPEGs as they are: image i has red 5 * i, class i % 3."""
    source.mkdir()

    def examples(split, size):
        for i in range(size):
            path = source / f"{split} {i}.jpg"
            path.write_bytes(b"broken" if (split, i) in broken else jpeg(5 * i))
            example = {"file_name": path.name, "image": str(path), "label": i % 3}
            yield f"{split}{i}", example

    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        data_dir=folder,
        split_datasets={"train": examples("train", count), "validation": examples("val", 7)},
        features=tfds.features.FeaturesDict(
            {
                "file_name": tfds.features.Text(),
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=NAMES),
            }
        ),
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(num_shards=3),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By file format: a folder of sound images, and one with broken ones among them."""
    broken = {("train", 3), ("train", 17), ("val", 2)}
    written = {}
    for name in FORMATS:
        root = tmp_path_factory.mktemp(name)
        write_prepared(root / "sound", root / "sound images", name)
        write_prepared(root / "broken", root / "broken images", name, broken=broken)
        written[name] = root / "sound", root / "broken"
    return written


@pytest.fixture(params=FORMATS)
def file_format(request):
    return request.param


@pytest.fixture
def folder(folders, file_format):
    return folders[file_format][0]


@pytest.fixture
def broken_folder(folders, file_format):
    return folders[file_format][1]


def load(folder, **arguments):
    return pkkd_tf.data.load("imagenet", folder, image_size=32, **arguments)


def collect(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def numbers(images, data):
    mean, std = data.preprocessing["mean"][0], data.preprocessing["std"][0]
    return np.rint((images[..., 0].mean(axis=(1, 2)) * std + mean) * 51).astype(int)


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_records_describe_themselves(folder):
    data = load(folder, num_classes=3)
    assert (data.num_train, data.num_test, data.class_names) == (30, 7, NAMES)
    assert data.image_shape == (32, 32, 3)
    with pytest.raises(ValueError, match="Received: num_classes=4, found 3 in"):
        load(folder, num_classes=4)
    with pytest.raises(ValueError, match="Received: limit_train=31, training images=30"):
        load(folder, limit_train=31)


@pytest.mark.parametrize("skip", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_epoch_holds_every_record_once_with_its_label(folder, skip):
    data = load(folder, skip_broken_images=skip)
    orders = []
    for images, labels in collect(data.train(30, epochs=2)):
        orders.append(numbers(images, data))
        np.testing.assert_array_equal(np.sort(orders[-1]), np.arange(30))
        np.testing.assert_array_equal(orders[-1] % 3, labels)
    assert (orders[0] != orders[1]).any() and (orders[0] != np.arange(30)).any()


def test_shuffling_block_by_block_keeps_every_record(folders, monkeypatch):
    monkeypatch.setattr(records, "SHUFFLE_BLOCK", 8)
    data = load(folders["tfrecord"][0])
    images = np.concatenate([images for images, _ in collect(data.train(10))])
    np.testing.assert_array_equal(np.sort(numbers(images, data)), np.arange(30))


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_starting_in_the_middle_gives_the_tail(broken_folder, folder, skip):
    data = load(broken_folder if skip else folder, skip_broken_images=skip)
    whole = collect(data.train(4, epochs=3))
    assert len(whole) == 21
    assert_same(collect(data.train(4, epochs=3, start_epoch=1, start_step=5)), whole[12:])


def test_test_records_come_in_order(folder):
    data = load(folder)
    images, labels = (np.concatenate(part) for part in zip(*collect(data.test(4))))
    assert sorted(numbers(images, data)) == list(range(7))
    np.testing.assert_array_equal(numbers(images, data) % 3, labels)


@pytest.mark.slow
def test_limit_train_keeps_the_same_records_every_epoch(folder):
    data = load(folder, limit_train=9)
    seen = [np.sort(numbers(images, data)) for images, _ in collect(data.train(9, epochs=2))]
    np.testing.assert_array_equal(*seen)
    assert len(set(seen[0])) == 9
    np.testing.assert_array_equal(np.sort(numbers(data.sample(9), data)), seen[0])


def test_a_broken_record_is_named(broken_folder):
    data = load(broken_folder)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image='train (3|17)\.jpg'"):
        collect(data.train(30))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image='val 2\.jpg'"):
        collect(data.test(7))


def test_broken_records_are_passed_over_and_batches_stay_full(folders):
    data = load(folders["tfrecord"][1], skip_broken_images=True)
    batches = collect(data.train(10, epochs=1))
    assert [len(labels) for _, labels in batches] == [10, 10, 10]
    seen = np.concatenate([numbers(images, data) for images, _ in batches])
    # 28 sound records once, then two of a second reading.
    assert set(seen[:28]) == set(range(30)) - {3, 17}
    assert data.num_broken == 2
    assert sum(len(labels) for _, labels in collect(data.test(4))) == 6
    assert data.num_broken == 3


@pytest.mark.slow
def test_broken_array_records_are_replaced_where_they_stood(folders):
    sound, broken = (load(f, skip_broken_images=True) for f in folders["array_record"])
    for expected, (images, labels) in zip(collect(sound.train(10)), collect(broken.train(10))):
        before, after = numbers(expected[0], sound), numbers(images, broken)
        replaced = np.isin(before, (3, 17))
        np.testing.assert_array_equal(images[~replaced], expected[0][~replaced])
        assert not set(after) & {3, 17}
        np.testing.assert_array_equal(after % 3, labels)
    assert broken.num_broken == 2
    assert sum(len(labels) for _, labels in collect(broken.test(4))) == 6
    assert broken.num_broken == 3


@pytest.mark.slow
def test_an_epoch_of_array_records_is_any_permutation(folders):
    """Of all files: no part of the order is one file's, as it is with TFRecord files' blocks."""
    data = load(folders["array_record"][0])
    places = np.array([numbers(images, data) for images, _ in collect(data.train(30, epochs=60))])
    # 60 uniform draws of 0..29: mean 14.5, deviation of the mean 8.66 / 60**0.5 = 1.12.
    assert np.abs(places.mean(axis=0) - 14.5).max() < 5 * 1.12


@pytest.mark.slow
def test_thread_count_changes_nothing(folder):
    options = [tf.data.Options(), tf.data.Options()]
    for one, count in zip(options, (1, 8)):
        one.threading.private_threadpool_size = count
    batches = load(folder).train(4, epochs=3)
    assert_same(*(collect(batches.with_options(one)) for one in options))


@pytest.fixture
def opened(folders):
    """The array_record files of 30 training images, three files."""
    builder = tfds.builder_from_directory(folders["array_record"][0] / "imagenet2012" / "5.1.0")
    split = builder.info.splits["train"]
    assert len(split.filepaths) == 3
    return split.filepaths, split.shard_lengths


def test_array_records_are_numbered_over_all_files(opened):
    found = ArrayRecords(*opened)
    assert len(found) == 30
    singly = [ArrayRecords([p], [n]).read(np.arange(n)) for p, n in zip(*opened)]
    rows = np.array([29, 0, 11, 11, 5])
    np.testing.assert_array_equal(found.read(rows), np.concatenate(singly)[rows])


def test_array_records_are_read_by_many_threads_with_few_files_open(opened, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (4, 4))
    few, all_open = ArrayRecords(*opened), ArrayRecords(*opened)
    draws = np.random.default_rng(0).integers(0, 30, (200, 16))
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(few.read, draws))
    np.testing.assert_array_equal(np.stack(read), all_open.read(draws.ravel()).reshape(200, 16))
    assert few._opened.cache_info().currsize == 2


def test_without_the_package_array_record_it_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(ValueError, match="`pip install array_record`, or prepare .* Received: "):
        load(folders["array_record"][0])
