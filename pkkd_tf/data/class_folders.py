"""Finds images in class folders: ROOT/{train,val}/CLASS/IMAGE."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png")


class ImageFiles(NamedTuple):
    """Paths (bytes) and int32 labels of the images of one split, sorted by class, then name."""

    paths: np.ndarray
    labels: np.ndarray


def find_class_folders(
    root: Path, num_classes: int | None
) -> tuple[ImageFiles, ImageFiles, tuple[str, ...]]:
    """Lists the images below ROOT/train and ROOT/val.

    The classes are the sorted names of the folders. Files that do not end in .jpg, .jpeg or .png
    (upper or lower case), names that begin with a dot, and links that lead nowhere are ignored.

    Args:
        root: folder that holds `train` and `val`.
        num_classes: int or None. How many class folders there have to be.

    Returns:
        (train, val, class names).

    Raises:
        FileNotFoundError: one of the two folders is not there.
        ValueError: another number of classes, classes that differ, or a class without images.
    """
    names = {split: _class_names(root, split) for split in ("train", "val")}
    _check_classes(root, names["train"], names["val"], num_classes)
    train, val = (_list_images(root / split, names["train"]) for split in ("train", "val"))
    return train, val, names["train"]


def _class_names(root: Path, split: str) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        raise FileNotFoundError(
            "An image folder must hold train/CLASS/*.jpg and val/CLASS/*.jpg. "
            f"Received: data_dir='{root}' without a folder '{split}'"
        )
    return tuple(sorted(e.name for e in os.scandir(folder) if _visible(e) and _is(e.is_dir)))


def _check_classes(
    root: Path, train: tuple[str, ...], val: tuple[str, ...], num_classes: int | None
) -> None:
    if num_classes is not None and num_classes != len(train):
        raise ValueError(
            "num_classes must equal the number of class folders. Received: "
            f"num_classes={num_classes}, found {len(train)} class folders in "
            f"'{root / 'train'}': {_shortened(train)}"
        )
    if train != val:
        raise ValueError(
            "train and val must hold the same class folders. "
            f"Received: data_dir='{root}', only in train: {_shortened(set(train) - set(val))}; "
            f"only in val: {_shortened(set(val) - set(train))}"
        )
    if not train:
        raise ValueError(
            "An image folder must hold at least one class folder. "
            f"Received: no folder in '{root / 'train'}'"
        )


def _shortened(names: Iterable[str], limit: int = 10) -> str:
    names = sorted(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more


def _list_images(folder: Path, class_names: tuple[str, ...]) -> ImageFiles:
    paths, labels = [], []
    for label, name in enumerate(class_names):
        with os.scandir(folder / name) as entries:
            found = sorted(e.path for e in entries if _is_image(e))
        if not found:
            raise ValueError(
                f"Every class folder must hold at least one image ({', '.join(SUFFIXES)}). "
                f"Received: none in '{folder / name}'"
            )
        paths += [os.fsencode(path) for path in found]
        labels += [label] * len(found)
    return ImageFiles(np.array(paths, object), np.array(labels, np.int32))


def _is_image(entry: os.DirEntry) -> bool:
    return entry.name.lower().endswith(SUFFIXES) and _visible(entry) and _is(entry.is_file)


def _is(kind: Callable[[], bool]) -> bool:
    """A link that leads to itself is nothing, as one that leads nowhere is."""
    try:
        return kind()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _visible(entry: os.DirEntry) -> bool:
    return not entry.name.startswith(".")
