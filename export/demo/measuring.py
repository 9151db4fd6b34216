"""Accuracy, time and energy of every file."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from custom_ops import build_delegate
from export import latency, program
from export.demo.files import Exported
from export.energy import NetworkEnergy, estimate, tflite_bits, tflite_records
from export.program import ExportError
from export.tflite import Network
from pkkd_tf import data as datasets
from pkkd_tf.data import ImageDataset

BATCH_SIZE = 32
THREADS = 1
Classify = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        student, teacher: `.keras` files.
        dataset: a name of `pkkd_tf.data.load`.
        data_dir: its folder, or None.
        num_runs: runs of each file that are timed.
        limit_test: most test images, or None.
    """

    student: str
    teacher: str
    dataset: str
    data_dir: str | None = None
    num_runs: int = 200
    limit_test: int | None = None

    def network(self, role: str) -> str:
        """The `.keras` file of "student" or "teacher"."""
        return {"student": self.student, "teacher": self.teacher}[role]


@dataclasses.dataclass(frozen=True)
class FileFigures:
    """What was measured of one file.

    Attributes:
        exported: the file.
        bytes: its size.
        accuracy: share of the test images whose largest output is the label's.
        agreement: share of them that get the class that the network gives them in Keras.
        timing: one image, one thread.
        energy: computed from the file's operators.
    """

    exported: Exported
    bytes: int
    accuracy: float
    agreement: float
    timing: latency.Timing
    energy: NetworkEnergy


@dataclasses.dataclass(frozen=True)
class Figures:
    """Everything that was measured.

    Attributes:
        files: one entry a file, by the variant's name.
        keras_accuracy: "student" and "teacher" -> accuracy of the network in Keras.
        num_test: test images.
        load: the machine's load average while the files were timed.
    """

    files: dict[str, FileFigures]
    keras_accuracy: dict[str, float]
    num_test: int
    load: float


def load_data(setting: Setting) -> ImageDataset:
    """The data set, checked against both networks.

    Raises:
        ExportError: a network cannot be read, or takes other images or has other classes.
        ValueError, FileNotFoundError: as `pkkd_tf.data.load`.
    """
    models = {role: program.load_network(setting.network(role), f"--{role}") for role in ROLES}
    shapes = {role: model.inputs[0].shape[1:] for role, model in models.items()}
    size = shapes["student"][0] if setting.dataset == "imagenet" else None
    data = datasets.load(setting.dataset, setting.data_dir, image_size=size, augmentation="none")
    for role, model in models.items():
        sizes = [tensor.shape[-1] for tensor in model.outputs]
        if tuple(shapes[role]) != data.image_shape or sizes != [data.num_classes]:
            classes = ", ".join(map(str, sizes))
            raise ExportError(
                f"--{role} must take the data set's images and know its classes. Received: "
                f"'{setting.network(role)}' takes {tuple(shapes[role])} and knows {classes}, "
                f"{data.name} has {data.image_shape} and {data.num_classes}"
            )
    return data


ROLES = ("student", "teacher")


def measure(setting: Setting, data: ImageDataset, exported: Sequence[Exported]) -> Figures:
    """Classifies the test images with every file, and times all files in turns.

    Args:
        setting: what is measured.
        data: the data set.
        exported: the files.

    Returns:
        `Figures`.
    """
    delegate = build_delegate.LIBRARY
    labels = np.concatenate([labels for _, labels in _test_batches(data, setting.limit_test)])
    in_keras = {role: _classes(_keras(setting.network(role)), data, setting) for role in ROLES}
    classes = [_classes(_tflite(e.path, delegate), data, setting) for e in exported]
    print(f"accuracy: {len(labels):,} test images", flush=True)
    paths = [os.fspath(e.path) for e in exported]
    timings = latency.measure(paths, os.fspath(delegate), THREADS, setting.num_runs, 10)
    load = os.getloadavg()[0]
    files = {
        e.variant.name: FileFigures(
            exported=e,
            bytes=e.path.stat().st_size,
            accuracy=float(np.mean(found == labels)),
            agreement=float(np.mean(found == in_keras[e.variant.role])),
            timing=timing,
            energy=_energy(e.path),
        )
        for e, found, timing in zip(exported, classes, timings, strict=True)
    }
    keras_accuracy = {role: float(np.mean(found == labels)) for role, found in in_keras.items()}
    return Figures(files, keras_accuracy, len(labels), load)


def _energy(path: Path) -> NetworkEnergy:
    content = path.read_bytes()
    return estimate(tflite_records(content), tflite_bits(content))


def _test_batches(data: ImageDataset, limit: int | None) -> Iterator[tuple[Any, Any]]:
    left = data.num_test if limit is None else limit
    for images, labels in data.test(BATCH_SIZE).as_numpy_iterator():
        if left <= 0:
            return
        yield images[:left], labels[:left]
        left -= len(images)


def _classes(classify: Classify, data: ImageDataset, setting: Setting) -> np.ndarray:
    outputs = [classify(images) for images, _ in _test_batches(data, setting.limit_test)]
    return np.concatenate(outputs).argmax(-1)


def _tflite(path: Path, delegate: Path) -> Classify:
    return Network(path.read_bytes(), delegate, num_threads=os.cpu_count() or 1)


def _keras(path: str) -> Classify:
    model = program.load_network(path)
    graph = tf.function(lambda images: model(images, training=False), autograph=False)
    return lambda images: keras.tree.flatten(graph(tf.constant(images)))[0].numpy()
