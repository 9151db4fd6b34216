"""What the copy of a network takes over: weights, inputs, the structure of its outputs."""

from collections.abc import Iterable
from typing import Any

import keras


def take_in(model: keras.Model) -> keras.Model:
    """Has every layer of `model` use the weights that it was given; returns `model`.

    An adapted `Normalization` computes with numbers that it derives from its weights once.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def copy_weights(source: keras.Model, copied: keras.Model) -> keras.Model:
    """Gives `copied`, whose weights are those of `source` in their order, their values."""
    copied.set_weights([keras.ops.convert_to_numpy(w) for w in source.weights])
    return take_in(copied)


def assign(variables: Iterable[Any], values: Iterable[Any]) -> None:
    """Assigns values to as many variables as there are values."""
    for variable, value in zip(variables, values):
        variable.assign(value)


def output_structure(model: keras.Model) -> Any:
    """The outputs of a functional or built sequential model: a tensor, a list or a dict of some."""
    return getattr(model, "_functional", model).output


def input_like(tensor: Any) -> Any:
    """An input of the shape, type and name of a network's input `tensor`."""
    name = tensor._keras_history.operation.name  # the tensor's own may be another one
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
