"""Networks from files that anybody may have written."""

import os
from typing import Any

import keras

from experiments.errors import RunError
from pkkd_tf import pretrained


def load(path: str | os.PathLike, flag: str, error_type: type[RunError] = RunError) -> keras.Model:
    """Loads the network in a `.keras` file, without the state of its training.

    No code out of the file runs: Keras' safe mode refuses `Lambda` layers and unknown classes. XLA,
    which the compiled operations do not serve, is left out of its predictions: Keras would have it
    compile them wherever there is a GPU.

    Args:
        path: the file, as `student.keras` of a run, or the name of a network that comes with the
            package, as `resnet20_cifar10`.
        flag: what an error calls it.
        error_type: the class of that error.

    Raises:
        RunError: there is no such file, or Keras cannot read it.
    """
    if path in pretrained.ACCURACY:
        path = pretrained.pretrained_path(str(path))
    if not os.path.isfile(path) or not str(path).endswith(".keras"):
        raise error_type(f"{flag} must be an existing .keras file. Received: {flag[2:]}={path}")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of any class: nothing checks a damaged file's values before use
        reason = (str(error).split("Exception encountered: ")[-1].strip().splitlines() or [""])[0]
        raise error_type(
            f"{flag} must be a network that Keras saved whole. "
            f"Received: {flag[2:]}={path}, {type(error).__name__}: {reason}"
        ) from error
    model.jit_compile = False
    return model


def image_size(network: keras.Model, dataset: str, asked: int | None) -> int | None:
    """The size to load a data set's images in: as asked; of ImageNet's, else, the network's.

    None where neither says one, or the network's images are not square.
    """
    shape = _shape(network, "input_shape")
    if asked is not None or dataset != "imagenet" or len(shape) != 4 or shape[1] != shape[2]:
        return asked
    return shape[1]


def check_fits(network: keras.Model, data: Any, flag: str) -> None:
    """Raises `RunError` unless a network takes a data set's images and has all its classes."""
    shape = _shape(network, "input_shape")
    if not _takes(shape, data.image_shape):
        raise RunError(
            f"{flag} must be a network for images as --dataset has them (imagenet: in --image_size)"
            f". Received: input shape={shape}, images of {data.name}={data.image_shape}"
        )
    shapes = [tuple(tensor.shape) for tensor in getattr(network, "outputs", None) or []]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] != data.num_classes:
        raise RunError(
            f"{flag} must be a network of one tensor, one number for each class of --dataset. "
            f"Received: output shapes={shapes}, classes of {data.name}={data.num_classes}"
        )


def _takes(shape: tuple, image: tuple[int, int, int]) -> bool:
    if len(shape) == 3 and image[2] == 1:
        shape = (*shape, 1)  # Keras takes the channel away
    return len(shape) == 4 and all(n in (None, m) for n, m in zip(shape[1:], image))


def _shape(network: keras.Model, name: str) -> tuple:
    """Empty of what is no graph of layers, such as a training's whole state."""
    return getattr(network, name, ())
