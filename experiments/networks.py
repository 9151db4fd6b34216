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


def check_classes(network: keras.Model, data: Any, flag: str) -> None:
    """Raises `RunError` unless a network has an output for each class of a data set."""
    shape = network.output_shape
    if len(shape) != 2 or shape[1] != data.num_classes:
        raise RunError(
            f"{flag} must be a network of one output for each class of --dataset. "
            f"Received: output shape={shape}, classes of {data.name}={data.num_classes}"
        )
