import os

import numpy as np
import pytest
import tensorflow as tf

import pkkd_tf.data
from pkkd_tf.data import decoding

CLASSES = ("a b", "straße", "Zebra")


def jpeg(colour, height=40, width=60):
    """A JPEG whose red is one colour, whose green rises downwards and blue to the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = colour % 256
    image[..., 1] = np.linspace(0, 250, height)[:, None]
    image[..., 2] = np.linspace(0, 250, width)
    return tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy()


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


def write_images(root, per_class=8, classes=CLASSES):
    for label, name in enumerate(classes):
        for i in range(per_class):
            suffix = (".jpg", ".JPEG", ".jpeg")[i % 3]
            write(root / "train" / name / f"bild ä {i}{suffix}", jpeg(60 * label + 5 * i))
        for i in range(3):
            write(root / "val" / name / f"{i}.jpg", jpeg(60 * label))


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    return tmp_path


def load(folder, **arguments):
    return pkkd_tf.data.load("imagenet", folder, image_size=32, **arguments)


def collect(batches):
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def red(images, data):
    """The red of each image, the mean over its pixels, 0..255."""
    mean, std = data.preprocessing["mean"][0], data.preprocessing["std"][0]
    return (images[..., 0].mean(axis=(1, 2)) * std + mean) * 255


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


BROKEN = {
    "empty": b"",
    "text": b"This is not an image at all.",
    "truncated": jpeg(100)[:-60],
    "half": jpeg(100)[:700],
}


@pytest.mark.slow
def test_folders_describe_themselves(folder):
    data = load(folder, num_classes=3)
    assert data.class_names == ("Zebra", "a b", "straße")
    assert (data.num_train, data.num_test, data.image_shape) == (24, 9, (32, 32, 3))
    batches = data.train(5, epochs=2)
    assert batches.cardinality() == 8
    assert batches.element_spec[0] == tf.TensorSpec((5, 32, 32, 3), tf.float32)
    assert batches.element_spec[1] == tf.TensorSpec((5,), tf.int32)


def test_default_size(folder):
    assert pkkd_tf.data.load("imagenet", folder).image_shape == (224, 224, 3)


def test_every_image_comes_once_with_its_label(folder):
    data = load(folder)
    batches = collect(data.train(4))
    assert len(batches) == 6
    images, labels = (np.concatenate(part) for part in zip(*batches))
    # Red is 60 * (place of the class in CLASSES) + 5 * number, whatever window was cut out.
    number = np.rint(red(images, data) / 5).astype(int)
    expected = sorted(12 * label + i for label in range(3) for i in range(8))
    assert sorted(number) == expected
    by_place = [data.class_names.index(CLASSES[n // 12]) for n in number]
    np.testing.assert_array_equal(labels, by_place)


@pytest.mark.slow
def test_starting_in_the_middle_gives_the_tail(folder):
    data = load(folder, augmentation=("standard", "randomerasing", "cutmix"))
    whole = collect(data.train(5, epochs=3))
    assert_same(collect(data.train(5, epochs=3, start_epoch=1, start_step=2)), whole[6:])
    assert_same(
        collect(load(folder, augmentation=("standard", "randomerasing", "cutmix")).train(5)),
        whole[:4],
    )
    assert (whole[0][0] != whole[4][0]).any()


def test_thread_count_changes_nothing(folder):
    options = [tf.data.Options(), tf.data.Options()]
    for one, count in zip(options, (1, 8)):
        one.threading.private_threadpool_size = count
    batches = load(folder).train(5, epochs=3)
    assert_same(*(collect(batches.with_options(one)) for one in options))


def test_test_images_are_the_centre_of_the_resized_photo(folder):
    data = load(folder)
    images, labels = (np.concatenate(part) for part in zip(*collect(data.test(4))))
    np.testing.assert_array_equal(labels, [0] * 3 + [1] * 3 + [2] * 3)
    photo = tf.io.decode_jpeg((folder / "val" / "Zebra" / "0.jpg").read_bytes()).numpy()
    # Short side 40 -> round(32 * 256 / 224) = 37; long side 60 -> 55.5, rounded to even.
    resized = tf.image.resize(photo, (37, 56), antialias=True).numpy()[2:34, 12:44]
    expected = (resized / 255 - data.preprocessing["mean"]) / data.preprocessing["std"]
    np.testing.assert_allclose(images[0], expected, atol=1e-4)


def test_without_standard_training_images_look_like_test_images(folder):
    data = load(folder, augmentation="none")
    images = np.concatenate([x for x, _ in collect(data.train(24))])
    sample = data.sample(24)
    order = [np.argsort(red(part, data)) for part in (images, sample)]
    np.testing.assert_array_equal(images[order[0]], sample[order[1]])


def test_sample_is_fixed(folder):
    np.testing.assert_array_equal(load(folder).sample(7), load(folder).sample(7))
    assert load(folder).sample(7).shape == (7, 32, 32, 3)


@pytest.mark.slow
def test_limit_train_keeps_the_same_images_every_epoch(folder):
    data = load(folder, limit_train=9)
    assert data.num_train == 9
    reds = [
        sorted(np.rint(red(x, data) / 5)[0] for x, _ in collect(data.train(1, e + 1, e)))
        for e in range(2)
    ]
    assert reds[0] == reds[1] and len(set(reds[0])) == 9


def test_other_files_are_ignored_and_the_contents_decide(folder):
    write(folder / "train" / "Zebra" / "notes.txt", b"x")
    write(folder / "train" / "Zebra" / "._bild.jpg", b"x")
    write(folder / "train" / "README.md", b"x")
    (folder / "train" / ".cache").mkdir()
    image = tf.io.encode_png(np.full((40, 60, 3), 200, np.uint8)).numpy()
    write(folder / "train" / "Zebra" / "real.PNG", image)
    write(folder / "train" / "Zebra" / "disguised.JPEG", image)
    grey = tf.io.encode_jpeg(np.full((40, 60, 1), 200, np.uint8)).numpy()
    write(folder / "train" / "Zebra" / "grey.jpg", grey + b"bytes after the end")
    data = load(folder)
    assert data.num_train == 27
    images = np.concatenate([x for x, _ in collect(data.train(1))])
    assert (np.abs(red(images, data) - 200) < 2).sum() == 3


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_image_ends_the_iteration_with_its_name(folder, kind, split):
    path = folder / split / "straße" / "brök en.jpg"
    write(path, BROKEN[kind])
    data = load(folder)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        collect(data.train(1) if split == "train" else data.test(4))
    text = str(caught.value)
    assert "skip_broken_images=True passes over those that are not. Received: image=" in text
    assert f"'{path}' ({len(BROKEN[kind])} bytes)" in text
    assert data.num_broken == 0


def test_a_file_that_vanishes_is_named(folder):
    data = load(folder)
    path = folder / "val" / "a b" / "1.jpg"
    path.unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"'{path}' .no file."):
        collect(data.test(4))


@pytest.mark.slow
def test_broken_training_images_are_replaced(folder):
    for kind, contents in BROKEN.items():
        write(folder / "train" / "straße" / f"{kind}.jpg", contents)
    data = load(folder, skip_broken_images=True)
    assert (data.num_train, data.num_broken) == (28, 0)
    whole = collect(data.train(7, epochs=2))
    assert [len(labels) for _, labels in whole] == [7] * 8
    assert data.num_broken == 4
    for images, labels in whole:
        number = np.rint(red(images, data) / 5).astype(int)
        by_place = [data.class_names.index(CLASSES[n // 12]) for n in number]
        np.testing.assert_array_equal(labels, by_place)
    assert_same(collect(data.train(7, epochs=2, start_epoch=1, start_step=1)), whole[5:])


@pytest.mark.slow
def test_broken_test_images_are_left_out(folder):
    write(folder / "val" / "a b" / "0.jpg", b"")
    data = load(folder, skip_broken_images=True)
    labels = np.concatenate([labels for _, labels in collect(data.test(4))])
    np.testing.assert_array_equal(labels, [0] * 3 + [1] * 2 + [2] * 3)
    assert data.test(4).cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert (data.num_broken, data.num_test) == (1, 9)
    collect(data.test(4))
    assert data.num_broken == 1


def test_when_nothing_can_be_decoded_skipping_ends_too(tmp_path):
    write_images(tmp_path, classes=("one",))
    for path in (tmp_path / "train" / "one").iterdir():
        path.write_bytes(b"")
    data = load(tmp_path, skip_broken_images=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Of 8 images tried in a row"):
        collect(data.train(2))


@pytest.mark.parametrize("complete", [True, False])
def test_random_windows(complete):
    contents = jpeg(100, 90, 120) + (b"" if complete else b"trailing")
    windows = np.array(
        [decoding.decode_random_window(contents, tf.constant([5, i])).shape[:2] for i in range(150)]
    )
    area, ratio = windows.prod(axis=1) / (90 * 120), windows[:, 1] / windows[:, 0]
    assert area.min() > 0.07 and area.max() > 0.8
    assert 0.7 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.4
    # The sampler draws the ratio, then the height: uniform between what the areas allow.
    rng = np.random.default_rng(0)
    drawn = rng.uniform(3 / 4, 4 / 3, 20000)
    low = np.sqrt(0.08 * 90 * 120 / drawn)
    high = np.minimum(np.sqrt(90 * 120 / drawn), np.minimum(90, 120 / drawn))
    expected = rng.uniform(low, high) ** 2 * drawn / (90 * 120)
    deviation = expected.std() / np.sqrt(len(area))
    assert abs(area.mean() - expected.mean()) < 5 * deviation


def test_both_ways_of_decoding_a_window_agree():
    contents, key = jpeg(100, 90, 120), tf.constant([5, 6])
    fused = decoding.decode_random_window(contents, key).numpy().astype(int)
    whole = decoding.decode_random_window(contents + b"trailing", key).numpy().astype(int)
    assert fused.shape == whole.shape
    assert np.abs(fused - whole).max() <= 2


def test_half_of_the_training_images_are_mirrored():
    image = tf.constant(np.broadcast_to(np.arange(20, dtype=np.uint8)[:, np.newaxis], (20, 20, 3)))
    mirrored = 0
    for i in range(200):
        out = decoding.resize_and_mirror(image, 20, tf.constant([1, i])).numpy()
        mirrored += bool(out[0, 0, 0] > out[0, -1, 0])
        np.testing.assert_array_equal(np.sort(out[0, :, 0]), np.arange(20))
    # 200 draws with probability 1/2: five deviations are 35.
    assert abs(mirrored - 100) < 35


def test_wrong_number_of_classes(folder):
    with pytest.raises(ValueError) as caught:
        load(folder, num_classes=5)
    expected = (
        "Received: num_classes=5, found 3 class folders in "
        f"'{folder / 'train'}': Zebra, a b, straße"
    )
    assert expected in str(caught.value)


def test_classes_that_differ(folder):
    os.rename(folder / "val" / "a b", folder / "val" / "other")
    with pytest.raises(ValueError, match="only in train: a b; only in val: other"):
        load(folder)


def test_a_class_without_images(folder):
    for path in (folder / "val" / "a b").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=f"Received: none in '{folder / 'val' / 'a b'}'"):
        load(folder)


def test_a_folder_without_classes(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match="Received: no folder in"):
        load(tmp_path)


def test_many_class_names_are_shortened(tmp_path):
    write_images(tmp_path, per_class=1, classes=[f"c{i:02}" for i in range(12)])
    with pytest.raises(ValueError, match=r"c08, c09, \.\.\. \(12 in all\)"):
        load(tmp_path, num_classes=4)


def test_missing_folders(folder, tmp_path):
    os.rename(folder / "val", folder / "validation")
    with pytest.raises(FileNotFoundError, match="without a folder 'val'"):
        load(folder)
    with pytest.raises(FileNotFoundError) as caught:
        load(tmp_path / "nothing")
    assert f"looked for {tmp_path}/nothing/train" in str(caught.value)
    assert "tfds build imagenet2012" in str(caught.value)
