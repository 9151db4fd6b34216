"""Images a second that one processor core decodes and augments: what feeds a training.

    python -m benchmarks.input_pipeline --data_dir DIR --images_per_second 1000
    python -m benchmarks.input_pipeline                     photos of 500x375 pixels of its own

Batches of `pkkd_tf.data` for training, from class folders of JPEGs, from the same images as
tensorflow-datasets stores them (array_record, TFRecord) and from arrays in memory (CIFAR), with
the standard augmentation and with RandAugment. Time is processor time of all threads, the least
of five turns, so a busy machine changes little; the files are in the page cache, so a disk's or
network's limit is not in it. The photos made without --data_dir are crops of the two that
scikit-learn brings along, of ImageNet's usual size: 500x375, about 100 KB. Hosts are those that
one accelerator needs which trains --images_per_second, with --cores each.

Writes `cpu.json` and `cpu.md` (the table it prints) into the output folder.
"""

import argparse
import math
import os
import pathlib
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import pkkd_tf.data
from benchmarks import measure, report
from pkkd_tf.data.class_folders import find_class_folders

PHOTOS, CLASSES, HEIGHT, WIDTH = 256, 2, 375, 500
TURNS = 5
AUGMENTATIONS = {"standard": ("standard",), "randaugment": ("standard", "randaugment")}


def write_photos(folder: pathlib.Path, count: int = PHOTOS) -> None:
    """Class folders of `count` JPEGs for training and 2 for test."""
    from sklearn.datasets import load_sample_images

    photos, draw = load_sample_images().images, np.random.default_rng(0)
    for split, number in (("train", count), ("val", CLASSES)):
        for i in range(number):
            photo = photos[i % CLASSES]
            top, left = (draw.integers(n - m) for n, m in zip(photo.shape, (HEIGHT, WIDTH)))
            path = folder / split / f"class{i % CLASSES}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            crop = photo[top : top + HEIGHT, left : left + WIDTH]
            path.write_bytes(tf.io.encode_jpeg(crop, quality=97).numpy())


def write_records(folder: pathlib.Path, source: pathlib.Path, count: int, file_format: str) -> None:
    """Up to `count` training images of class folders as tensorflow-datasets' imagenet2012."""
    train, val, names = find_class_folders(source, None)
    draw = np.random.default_rng(0).permutation(len(train.paths))[:count]

    def examples(files: Any, rows: Any) -> Any:
        for i in rows:
            path = os.fsdecode(files.paths[i])
            yield int(i), {"file_name": path, "image": path, "label": int(files.labels[i])}

    features = {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=names),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="imagenet2012",
        version="5.1.0",
        data_dir=folder,
        split_datasets={"train": examples(train, draw), "validation": examples(val, range(2))},
        features=tfds.features.FeaturesDict(features),
        file_format=file_format,
        disable_shuffling=True,
    )


def write_arrays(folder: pathlib.Path) -> None:
    """CIFAR's shapes; what the pixels are does not change the time."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 50_000), ("test", 10)):
        images = draw.integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", draw.integers(0, 10, count))


def rate(data: Any, batch: int, seconds: float) -> dict[str, float]:
    """Training images a second of processor time and of wall time, the fastest of some turns."""
    batches = iter(data.train(batch, epochs=1_000_000))
    for _ in range(2):
        next(batches)
    turns = [_turn(batches, batch, seconds / TURNS) for _ in range(TURNS)]
    processor, wall, images = zip(*turns)
    return {"a_core": max(processor), "wall": max(wall), "images": sum(images)}


def _turn(batches: Any, batch: int, seconds: float) -> tuple[float, float, int]:
    images, wall, processor = 0, time.perf_counter(), time.process_time()
    while time.process_time() - processor < seconds:
        next(batches)
        images += batch
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return images / processor, images / wall, images


def table(record: dict[str, Any]) -> str:
    """Markdown: images a second a core, cores and hosts for the asked rate."""
    machine, wanted, cores = (record[key] for key in ("machine", "images_per_second", "cores"))
    lines = [
        f"{machine['device']}, {machine['threads']} threads, {machine['clock']}, TensorFlow "
        f"{machine['tensorflow']}, {machine['date']}.",
        f"JPEGs: {record['kilobytes']:.0f} KB on average, batches of {record['batch']}.",
        "",
        f"| source | augmentation | images/s a core | cores for {wanted:g} images/s | "
        f"hosts of {cores} cores |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        needed = wanted / row["a_core"]
        lines.append(
            f"| {row['source']} | {row['augmentation']} | {row['a_core']:.0f} | {needed:.1f} | "
            f"{math.ceil(needed / cores)} |"
        )
    return "\n".join(lines) + "\n"


def prepare(
    scratch: pathlib.Path, arguments: argparse.Namespace
) -> tuple[dict[str, tuple[str, pathlib.Path, dict[str, int]]], float]:
    """Writes the photos in every form; name, folder and options of each for `load`; KB a JPEG."""
    folders, size = arguments.data_dir, {"image_size": arguments.image_size}
    if folders is None:
        folders = scratch / "photos"
        write_photos(folders)
    forms = {"class folders, JPEG": ("imagenet", folders, size)}
    for file_format, label in (("array_record", "array_record"), ("tfrecord", "TFRecord")):
        folder = scratch / file_format
        folder.mkdir()
        write_records(folder, folders, arguments.images, file_format)
        forms[f"{label}, JPEG"] = ("imagenet", folder, size)
    sizes = [os.path.getsize(p) for p in find_class_folders(folders, None)[0].paths[:2000]]
    return forms, float(np.mean(sizes)) / 1e3


def measure_all(forms: dict[str, Any], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for every source and augmentation."""
    rows = []
    for source, (name, folder, options) in forms.items():
        for label, augmentation in AUGMENTATIONS.items():
            data = pkkd_tf.data.load(name, folder, augmentation=augmentation, **options)
            measured = rate(data, min(arguments.batch, data.num_train), arguments.seconds)
            rows.append({"source": source, "augmentation": label, **measured})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=pathlib.Path, help="train/CLASS/*.jpg, val/CLASS/*.jpg")
    parser.add_argument("--image_size", type=int, default=224, help="pixels of a training image")
    parser.add_argument("--images", type=int, default=2000, help="at most, of the record files")
    parser.add_argument("--batch", type=int, default=64, help="images a batch")
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time a row")
    parser.add_argument("--images_per_second", type=float, default=1000.0, help="asked for")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="of a host")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("input_pipeline"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        forms, kilobytes = prepare(scratch, arguments)
        write_arrays(scratch)
        forms["CIFAR, in memory"] = ("cifar10", scratch, {})
        rows = measure_all(forms, arguments)
    record = {
        "machine": measure.machine(os.cpu_count()) | {"clock": "processor time"},
        "kilobytes": kilobytes,
        **{key: getattr(arguments, key) for key in ("batch", "images_per_second", "cores")},
        "rows": rows,
    }
    report.write_record(arguments.output, "cpu", record, table(record))


if __name__ == "__main__":
    main()
