"""What networks and images must be to be quantized."""

from collections.abc import Collection
from typing import Any

import keras
import numpy as np


def check_images(images: np.ndarray, least: int) -> None:
    """Raises `ValueError` for fewer images than `least`."""
    if len(images) < least:
        raise ValueError(
            f"Ranges and statistics need at least {least} image{'s' * (least > 1)}. "
            f"Received: images.shape={np.shape(images)}"
        )


def check_ends(model: keras.Model) -> None:
    """Raises `ValueError` unless a graph starts from one float tensor."""
    if len(model.inputs) != 1:
        raise ValueError(
            f"A network to quantize must take one tensor. Received: inputs={model.inputs}"
        )
    if not keras.backend.is_float_dtype(model.inputs[0].dtype):
        raise ValueError(
            "A network to quantize must take real numbers: images as they are after preprocessing. "
            f"Received: dtype={model.inputs[0].dtype} of its input"
        )


def check_graph(model: keras.Model) -> None:
    """Raises `ValueError` unless a model is a graph of layers."""
    inputs, outputs = (getattr(model, side, None) for side in ("inputs", "outputs"))
    if not inputs or not outputs:
        raise ValueError(
            "A network to quantize must be a functional or built sequential model. "
            f"Received: {type(model).__name__}, inputs={inputs}, outputs={outputs}"
        )
    others = [op.name for op in _operations(model) if not isinstance(op, keras.layers.Layer)]
    if others:
        raise ValueError(
            "A network to quantize must consist of layers: keras.layers.Add()([a, b]) instead of "
            "a + b, Rescaling instead of a product with a number, Cropping2D instead of a slice. "
            f"Received: operations={others}"
        )


def _operations(model: keras.Model) -> list[Any]:
    sequential = isinstance(model, keras.Sequential)
    return model.layers if sequential else model.operations


def check_layers(model: keras.Model, known: Collection[type]) -> None:
    """Raises `ValueError` for a layer with a weight matrix of another class than those.

    The slopes of a PReLU are none.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.PReLU):
            continue
        matrices = [tuple(w.shape) for w in layer.weights if len(w.shape) > 1]
        if matrices and type(layer) not in known:
            raise ValueError(
                f"A layer with a weight matrix must be one of {[t.__name__ for t in known]}. "
                f"Received: layer={layer.name!r}, type={type(layer).__name__}, weights={matrices}"
            )
