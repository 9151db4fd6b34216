"""`load`: from the name of a data set to its batches."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pkkd_tf.data import augmentation as augmentations
from pkkd_tf.data.array_records import ArrayRecordPhotos
from pkkd_tf.data.class_folders import find_class_folders
from pkkd_tf.data.dataset import ImageDataset
from pkkd_tf.data.image_files import FilePhotos
from pkkd_tf.data.in_memory import InMemoryDataset
from pkkd_tf.data.indexed import IndexedDataset
from pkkd_tf.data.prepared import TFRECORD, open_prepared, prepared_folder
from pkkd_tf.data.readers import data_root, read_cifar, read_digits
from pkkd_tf.data.records import RecordsDataset

NAMES = ("digits", "cifar10", "cifar100", "imagenet")

# Height and width of the images, number of classes.
_FIXED = {"digits": (8, 10), "cifar10": (32, 10), "cifar100": (32, 100)}

# Of the official code of adder networks.
_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010), "scale": 1 / 255}
# What a network is given of each data set: (pixel * scale - mean) / std, a value a channel.
PREPROCESSING: dict[str, dict[str, Any]] = {
    # Mean and deviation of the 1,437 training digits on the scale 0..1.
    "digits": {"mean": (0.30538,), "std": (0.37612,), "scale": 1 / 16},
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "scale": 1 / 255},
}


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    num_classes: int | None = None,
    augmentation: str | Sequence[str] = "standard",
    seed: int = 0,
    skip_broken_images: bool = False,
    limit_train: int | None = None,
) -> ImageDataset:
    """Opens a data set that lies on this machine. Nothing is downloaded.

    - "digits": the handwritten digits that scikit-learn brings along, 8x8x1, 1,437 / 360.
      Standard augmentation: shift by up to 1 pixel.
    - "cifar10", "cifar100": {train,test}_{images,labels}.npy in `data_dir` or `data_dir`/NAME, or
      the folder NAME/VERSION that tensorflow-datasets prepares; about 180 MB of memory. Standard
      augmentation: shift by up to 4 pixels over black, mirror.
    - "imagenet": `data_dir`/train/CLASS/*.jpg and `data_dir`/val/CLASS/*.jpg (.jpeg and .png too),
      or tensorflow-datasets' imagenet2012/VERSION, as array_record files or TFRecord files (read in
      blocks: no uniform permutation, and a later start reads what lies before it). Any class
      folders serve. Standard augmentation: random resized crop, mirror; test: short side to 256/224
      of the size, centre crop.

    Args:
        name: str. "digits", "cifar10", "cifar100" or "imagenet".
        data_dir: folder of the data; None is where tensorflow-datasets keeps them. Of "digits"
            there is none.
        image_size: int or None. Height and width for "imagenet", 224 if None. The others have a
            fixed size.
        num_classes: int or None. If given, it is checked.
        augmentation: "standard", "none", or a sequence out of "standard", "randaugment", "mixup",
            "cutmix" and "randomerasing" (see `BatchAugmentation`).
        seed: int, not negative. Order and augmentation are a function of it.
        skip_broken_images: bool. Whether image files that do not decode are passed over and
            counted in `num_broken`, instead of ending the iteration with an error that names them.
            "imagenet" alone has image files.
        limit_train: int or None. Uses this many training images, chosen by the seed.

    Returns:
        An `ImageDataset`.

    Raises:
        ValueError: an argument is wrong, or contradicts what was found.
        FileNotFoundError: the data are not there; the text says what was looked for.

    Example:
    ```python
    data = pkkd_tf.data.load("digits")
    for images, labels in data.train(batch_size=32, epochs=2):
        ...  # (32, 8, 8, 1), (32,)
    ```
    """
    if name not in NAMES:
        raise ValueError(f"The name must be one of {NAMES}. Received: name={name!r}")
    if seed < 0:
        raise ValueError(f"The seed must not be negative. Received: seed={seed}")
    common = {
        "name": name,
        "augmentation": augmentations.parse(augmentation),
        "seed": seed,
        "limit_train": limit_train,
    }
    if name != "imagenet":
        _check_fixed(name, image_size, num_classes)
        _check_unused(name, data_dir, skip_broken_images)
        return _load_in_memory(data_dir, common)
    size = 224 if image_size is None else image_size
    if size < 1:
        raise ValueError(f"The image size must be positive. Received: image_size={size}")
    common |= {
        "preprocessing": PREPROCESSING[name],
        "image_size": size,
        "skip_broken_images": skip_broken_images,
    }
    return _load_imagenet(data_root(data_dir), num_classes, common)


def _check_fixed(name: str, image_size: int | None, num_classes: int | None) -> None:
    size, classes = _FIXED[name]
    if image_size not in (None, size) or num_classes not in (None, classes):
        raise ValueError(
            f"{name} has {classes} classes and images of {size}x{size}. "
            f"Received: num_classes={num_classes}, image_size={image_size}"
        )


def _check_unused(name: str, data_dir: str | os.PathLike | None, skip_broken_images: bool) -> None:
    if skip_broken_images or (name == "digits" and data_dir is not None):
        raise ValueError(
            "`skip_broken_images` is for imagenet, whose images are single files, and `data_dir` "
            "for all but digits, which scikit-learn brings along. "
            f"Received: name={name!r}, data_dir={data_dir!r}, "
            f"skip_broken_images={skip_broken_images}"
        )


def _load_in_memory(data_dir: str | os.PathLike | None, common: dict[str, Any]) -> InMemoryDataset:
    name = common["name"]
    common |= {"preprocessing": PREPROCESSING[name]}
    if name == "digits":
        return InMemoryDataset(read_digits(), 1, False, **common)
    return InMemoryDataset(read_cifar(name, data_dir), 4, True, **common)


def _load_imagenet(root: Path, num_classes: int | None, common: dict[str, Any]) -> ImageDataset:
    if (root / "train").is_dir():
        train, test, common["class_names"] = find_class_folders(root, num_classes)
        return IndexedDataset(FilePhotos(train), FilePhotos(test), **common)
    folder = prepared_folder(root, "imagenet2012")
    if folder is None:
        raise FileNotFoundError(_missing(root))
    return _load_prepared(folder, num_classes, common)


def _load_prepared(folder: Path, num_classes: int | None, common: dict[str, Any]) -> ImageDataset:
    builder, file_format = open_prepared(folder)
    info = builder.info
    common["class_names"] = tuple(info.features["label"].names)
    _check_record_classes(len(common["class_names"]), num_classes, folder)
    if file_format == TFRECORD:
        return RecordsDataset(info, **common)
    splits = (info.splits[name] for name in ("train", "validation"))
    train, test = (ArrayRecordPhotos(split, info.features) for split in splits)
    return IndexedDataset(train, test, **common)


def _check_record_classes(found: int, num_classes: int | None, folder: Path) -> None:
    if num_classes not in (None, found):
        raise ValueError(
            "num_classes must equal the number of classes of the data set. "
            f"Received: num_classes={num_classes}, found {found} in '{folder}'"
        )


def _missing(root: Path) -> str:
    return (
        "imagenet must lie in data_dir as train/CLASS/*.jpg and val/CLASS/*.jpg or as a prepared "
        "tensorflow-datasets folder; with the two archives of image-net.org in "
        f"{root}/downloads/manual get the latter by `tfds build imagenet2012 --data_dir={root} "
        "--file_format=array_record`. "
        f"Received: data_dir='{root}', looked for {root}/train, "
        f"{root}/imagenet2012/*/dataset_info.json"
    )
