"""Calibration images, as the network takes them: from a data set, or from an array."""

import os
from pathlib import Path

import numpy as np

from export.program import ExportError
from pkkd_tf import data


def load_images(
    shape: tuple[int, ...], path: str | os.PathLike | None, dataset: str | None, count: int
) -> np.ndarray:
    """Reads calibration images.

    Args:
        shape: (H, W, C) of the network's images, None where it takes any size.
        path: a `.npy` file of images (N, H, W, C), float and preprocessed as in the training, or
            the folder of `dataset`.
        dataset: name of a data set, whose training images are taken; None for a `.npy` file.
            "digits" needs no folder.
        count: most images.

    Returns:
        float32 array (n, H, W, C), n <= `count`.

    Raises:
        ExportError: there is neither, or the images do not fit the network.
        ValueError, FileNotFoundError: as `pkkd_tf.data.load`.

    Example:
        >>> load_images((8, 8, 1), None, "digits", 256).shape
        (256, 8, 8, 1)
    """
    if path is not None and Path(path).suffix == ".npy":
        images = _read_array(path, dataset)
        images = images[:count] if images.ndim else images
    elif dataset is not None:
        size = shape[0] if dataset == "imagenet" else None
        images = data.load(dataset, path, image_size=size, augmentation="none").sample(count)
    else:
        raise ExportError(
            "int8 needs calibration images: --dataset=NAME with --calibration_data=FOLDER, or "
            f"--calibration_data=FILE.npy. Received: dataset={dataset}, calibration_data={path}"
        )
    _check(images, shape)
    return images.astype(np.float32)


def _read_array(path: str | os.PathLike, dataset: str | None) -> np.ndarray:
    if dataset is not None:
        raise ExportError(
            "--dataset goes with a folder; a .npy file holds preprocessed images of itself. "
            f"Received: dataset={dataset!r}, calibration_data='{path}'"
        )
    images = _load(path)
    if not np.issubdtype(images.dtype, np.floating):
        raise ExportError(
            "Calibration images must be preprocessed as in the training, so real numbers. "
            f"Received: calibration_data='{path}', type={images.dtype}"
        )
    return images


def _load(path: str | os.PathLike) -> np.ndarray:
    try:
        images = np.load(path, allow_pickle=False)
    except Exception as error:  # of many classes, where a header is damaged
        reason = str(error) or type(error).__name__
        raise ExportError(
            f"--calibration_data must be a readable .npy file. Received: '{path}', {reason}"
        ) from error
    if not isinstance(images, np.ndarray):
        raise ExportError(
            f"--calibration_data must hold one array. Received: '{path}', an archive of several"
        )
    return images


def _check(images: np.ndarray, shape: tuple[int, ...]) -> None:
    fits = images.ndim == 4 and len(images) > 0
    fits = fits and all(want in (None, size) for size, want in zip(images.shape[1:], shape))
    if not fits or not np.isfinite(images).all():
        raise ExportError(
            "Calibration images must have the shape of the network's, and only finite numbers. "
            f"Received: images {images.shape}, the network's {shape}"
        )
