"""What the export programs share: one clear sentence for an error, and loading a network."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from absl import logging

import pkkd_tf  # noqa: F401  registers the layers
from experiments import errors, networks
from experiments.errors import RunError
from export.outputs import has_names
from pkkd_tf.copies import copy_weights


class ExportError(RunError):
    """What the user of an export program must know: the rule and what was received."""

    _keras_call_info_injected = True  # so that Keras adds no lines of its own in a layer's call


def run(main: Callable[[], Any]) -> None:
    """As `experiments.errors.run`, without what TensorFlow reports of every step of an export."""

    def quietly() -> None:
        logging.set_verbosity(logging.ERROR)
        main()

    errors.run(quietly)


def load_network(path: str | os.PathLike, flag: str = "--model") -> keras.Model:
    """Loads a network from a `.keras` file to run it in float32, whatever it was trained in.

    Args:
        path: the file, as `student.keras` of a run.
        flag: what an error calls it.

    Returns:
        A built `keras.Model` that maps one batch of images (N, H, W, C) to one tensor, a list or a
        dict of tensors; the state of its training is left out.

    Raises:
        ExportError: there is no such file, Keras cannot read it, or it holds another kind of model.

    Example:
        >>> load_network("runs/digits/student.keras").output_shape
        (None, 10)
    """
    model = networks.load(path, flag, ExportError)
    _check_network(model, path, flag)
    if _other_weights(model) or _rounded_statistics(model):
        model = _of_float32(model, path, flag)
    for layer in model._flatten_layers():
        layer.dtype_policy = "float32"
    return model


@contextmanager
def tracing(model: keras.Model) -> Iterator[None]:
    """What a network cannot become a graph for is an `ExportError`, and one sentence."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # of any class: layers are anybody's
        # Keras sets the reason in bold, among lines of its own.
        reason = str(error).split("\x1b[1m")[-1].split("\x1b[0m")[0].strip().splitlines() or [""]
        raise ExportError(
            "The network must become a graph for images of its input's shape, None being any size. "
            f"Received: {model.inputs[0].shape}, {type(error).__name__}: {reason[0]}"
        ) from error


def cloned(
    model: keras.Model, copy: Callable[[keras.layers.Layer], keras.layers.Layer]
) -> keras.Model:
    """Copies a network and the networks inside of it.

    Args:
        model: a functional or sequential network, built.
        copy: makes the layer that stands for one of the network's.

    Returns:
        A `keras.Model` with the weights of `model`.

    Raises:
        ExportError: the network is of another kind, which Keras cannot copy.
    """
    try:
        copied = keras.models.clone_model(model, clone_function=copy, recursive=True)
    except ValueError as error:
        raise ExportError(
            "The network must be functional or sequential, of layers that Keras can copy, so that "
            "they can be exchanged. Received: "
            f"{type(model).__name__}, {str(error).splitlines()[0]}"
        ) from error
    return copy_weights(model, copied)


def _other_weights(model: keras.Model) -> dict[str, str]:
    """Weights of another float type, by their paths: of `bfloat16`, not of `mixed_bfloat16`."""
    return {
        weight.path: weight.dtype
        for weight in model.weights
        if keras.backend.is_float_dtype(weight.dtype) and weight.dtype != "float32"
    }


def _rounded_statistics(model: keras.Model) -> bool:
    """Whether a `Normalization` holds its mean in fewer bits, as in `mixed_float16`."""
    return any(
        isinstance(layer, keras.layers.Normalization) and layer.compute_dtype != "float32"
        for layer in model._flatten_layers()
    )


def _of_float32(model: keras.Model, path: str | os.PathLike, flag: str) -> keras.Model:
    """A copy whose weights are float32."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copied = cloned(model, copy)
    if left := _other_weights(copied):
        raise ExportError(
            f"{flag} must have float32 weights, or be of layers that can be copied with them. "
            f"Received: '{path}', {left}"
        )
    return copied


def _check_network(model: Any, path: str | os.PathLike, flag: str) -> None:
    """One batch of images in, tensors with names out, sizes known since it was built."""
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or not has_names(model):
        raise ExportError(
            f"{flag} must map one batch of images (N, H, W, C) to one tensor, or to a list or dict "
            f"of tensors; of a distilled run take student.keras. Received: '{path}', "
            f"type={type(model).__name__}, inputs={[x.shape for x in inputs]}, "
            f"outputs={[y.shape for y in outputs]}"
        )
