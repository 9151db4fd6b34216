"""Reads small image sets whole: digits, and CIFAR from .npy files or tensorflow-datasets."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pkkd_tf.data import labels
from pkkd_tf.data.array_records import ArrayRecords
from pkkd_tf.data.prepared import TFRECORD, open_prepared, prepared_folder


class Arrays(NamedTuple):
    """A data set in memory: uint8 images, int32 labels and the names of the classes."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def read_digits() -> Arrays:
    """The 1,797 handwritten digits of scikit-learn, 8x8 with values 0..16, split 1437 / 360."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images[..., np.newaxis].astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        images,
        digits.target.astype(np.int32),
        test_size=360,
        stratify=digits.target,
        random_state=0,
    )
    return Arrays(
        train_x, train_y, test_x, test_y, tuple(str(name) for name in digits.target_names)
    )


def read_cifar(name: str, data_dir: str | os.PathLike | None) -> Arrays:
    """Reads CIFAR-10 or CIFAR-100 from what lies in a folder.

    Args:
        name: "cifar10" or "cifar100".
        data_dir: folder with {train,test}_{images,labels}.npy, with a folder `name` that holds
            these, or with a tensorflow-datasets folder NAME/VERSION. None: the folder that
            tensorflow-datasets uses by itself.

    Returns:
        An `Arrays`.

    Raises:
        FileNotFoundError: nothing of this kind is there.
        ValueError: the arrays have another shape, type or range.
    """
    root = data_root(data_dir)
    class_names = labels.CIFAR10 if name == "cifar10" else labels.CIFAR100
    for folder in (root, root / name):
        if (folder / "train_images.npy").is_file():
            return Arrays(
                *_read_npy(folder, "train", len(class_names)),
                *_read_npy(folder, "test", len(class_names)),
                class_names,
            )
    prepared = prepared_folder(root, name)
    if prepared is None:
        raise FileNotFoundError(_missing(name, root))
    return _read_prepared(prepared)


def data_root(data_dir: str | os.PathLike | None) -> Path:
    """The folder to look into: `data_dir`, or tensorflow-datasets' own when it is None."""
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(default if data_dir is None else data_dir).expanduser()


def _missing(name: str, root: Path) -> str:
    return (
        f"{name} must lie in data_dir as .npy files or as a prepared tensorflow-datasets folder; "
        'get it with `python -c "import tensorflow_datasets as tfds; '
        f"tfds.load('{name}', data_dir='{root}')\"`. "
        f"Received: data_dir='{root}', looked for {root}/train_images.npy, "
        f"{root}/{name}/train_images.npy, {root}/{name}/*/dataset_info.json"
    )


def _read_npy(folder: Path, split: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    paths = [folder / f"{split}_{part}.npy" for part in ("images", "labels")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                "A CIFAR folder must hold {train,test}_{images,labels}.npy. "
                f"Received: folder='{folder}' without {path.name}"
            )
    return _checked(_load(paths[0]), _load(paths[1]), num_classes, paths[0])


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path)  # pickled objects, which run code, are refused
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"A CIFAR file must be what numpy.save wrote. Received: {path}, {error}"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"A CIFAR file must hold one array of numbers. Received: {path}, {kind}")
    return array


def _checked(
    images: np.ndarray, targets: np.ndarray, num_classes: int, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    targets = targets.reshape(-1)
    sound = images.dtype == np.uint8 and images.shape == (len(targets), 32, 32, 3)
    if not sound or len(targets) == 0:
        raise ValueError(
            "CIFAR images must be uint8 of shape (n, 32, 32, 3) with n labels, n at least 1. "
            f"Received: {path} with dtype={images.dtype}, shape={images.shape}, "
            f"labels of shape {targets.shape}"
        )
    whole = targets == np.floor(targets)  # False for what is no number
    if not whole.all() or targets.min() < 0 or targets.max() >= num_classes:
        raise ValueError(
            f"Labels must be whole numbers in 0..{num_classes - 1}. "
            f"Received: labels from {targets.min()} to {targets.max()} beside {path}"
        )
    return images, targets.astype(np.int32)


def _read_prepared(folder: Path) -> Arrays:
    builder, file_format = open_prepared(folder)
    names = tuple(builder.info.features["label"].names)

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        whole = _read_split(builder, split, file_format)
        return _checked(whole["image"], whole["label"], len(names), folder / split)

    return Arrays(*read("train"), *read("test"), names)


def _read_split(builder: Any, split: str, file_format: str) -> dict[str, np.ndarray]:
    import tensorflow_datasets as tfds

    if file_format == TFRECORD:
        return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    info = builder.info.splits[split]
    records = ArrayRecords(info.filepaths, info.shard_lengths).read(np.arange(info.num_examples))
    examples = tf.data.Dataset.from_tensor_slices(records).map(
        builder.info.features.deserialize_example, num_parallel_calls=tf.data.AUTOTUNE
    )
    return tfds.as_numpy(examples.batch(len(records)).get_single_element())
