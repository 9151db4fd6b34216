"""The layers of a network that are counted, and their calls."""

from collections.abc import Iterator
from typing import Any

import keras

from pkkd_tf.distillation import PKKD
from pkkd_tf.graphs import Call, calls

NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
ELEMENTWISE = (*NORMS, keras.layers.Normalization, keras.layers.PReLU)
PRODUCTS = (
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.Dot,
    keras.layers.TimeDistributed,
)
PRODUCT_OPERATIONS = ("Matmul", "Dot", "Einsum", "Tensordot", "Inner", "Outer", "Vdot", "Conv")
COUNTED = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)


def calls_by_layer(model: keras.Model) -> dict[int, list[Call]]:
    """The calls of each layer, by its `id`, in the order in which they were made."""
    found: dict[int, list[Call]] = {}
    for call in sorted(calls(model), key=lambda call: call.number):
        found.setdefault(id(call.layer), []).append(call)
    return found


def deployed(model: keras.Model) -> keras.Model:
    """The student of a `PKKD`, any other model itself."""
    return model.student if isinstance(model, PKKD) else model


def leaves(model: keras.Model) -> list[tuple[Any, str]]:
    """The layers that are counted: those that hold no others, each once, with their path of names.

    Args:
        model: as of `count_operations`.

    Raises:
        ValueError: a layer or operation has no rule.
    """
    return list(_leaves(deployed(model), "", set()))


def _leaves(layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    _check_has_a_rule(layer)
    if isinstance(layer, keras.Model):
        inner = layer.layers
    else:
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
    for child in inner:
        yield from _leaves(child, f"{prefix}{child.name}/", seen)
    if not inner:
        yield layer, prefix.rstrip("/")
    elsewhere = {id(weight) for child in inner for weight in child.weights}
    own = [weight for weight in layer.weights if id(weight) not in elsewhere]
    if not isinstance(layer, COUNTED + ELEMENTWISE):
        _check_has_no_matrix(layer, own)


def _check_has_a_rule(layer: Any) -> None:
    """Products that leave no weights behind."""
    operations = [
        operation.name
        for operation in getattr(layer, "operations", [])
        if not isinstance(operation, keras.layers.Layer)
        and type(operation).__name__.startswith(PRODUCT_OPERATIONS)
    ]
    if operations or isinstance(layer, PRODUCTS):
        raise ValueError(
            "What multiplies tensors must be a Conv2D, Conv2DTranspose, DepthwiseConv2D, "
            "SeparableConv2D, Dense or an adder of their kind, called on images, to be counted. "
            f"Received: layer={layer.name!r}, type={type(layer).__name__}, operations={operations}"
        )


def _check_has_no_matrix(layer: Any, weights: list[Any]) -> None:
    shapes = [tuple(weight.shape) for weight in weights]
    if any(len(shape) > 1 for shape in shapes):
        raise ValueError(
            "A layer with a weight matrix must be a Conv2D, Conv2DTranspose, DepthwiseConv2D, "
            "SeparableConv2D, Dense or an adder of their kind to be counted. "
            f"Received: layer={layer.name!r}, "
            f"type={type(layer).__name__}, weights={shapes}"
        )
