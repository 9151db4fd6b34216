"""The adder twin of a convolutional network."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from pkkd_tf.graphs import calls
from pkkd_tf.layers import ADDER_LAYERS, AdderConv2D, AdderDense, AdderDepthwiseConv2D

ADDERS: dict[type, Any] = {
    keras.layers.Conv2D: AdderConv2D,
    keras.layers.DepthwiseConv2D: AdderDepthwiseConv2D,
    keras.layers.Dense: AdderDense,
}
OTHER_PRODUCTS = (
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3D,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.EinsumDense,
)
DEAD_BELOW_ZERO = (keras.activations.relu, keras.activations.relu6)
INITIALIZERS = ("kernel_initializer", "depthwise_initializer")  # scaled by the fan-in


def to_adders(model: keras.Model, keep: Sequence[str] | None = None) -> keras.Model:
    """A network with adder layers where a convolutional one has convolutions and dense layers.

    Layers keep their names and arguments, so that `PKKD(to_adders(network), network)` compares
    them one by one. Only the initializers of what becomes an adder's filters are left out: these
    start as N(0, 1), and Keras' default, scaled by the fan-in, slows the training. All weights are
    new, and all layers trainable, as those of a frozen network are not.

    Args:
        model: functional or built sequential model, networks inside of it included.
        keep: names of layers that go on multiplying; None: the first and the last of those that
            do, which are few operations and stay in AdderNet and PKKD too. Others with products
            and without an adder form (`SeparableConv2D`, `Conv1D`, ...) must be named.

    Returns:
        A `keras.Model` of the same kind, not compiled. Batch normalization should follow its adder
        layers, with `momentum=0.9`, and the activation follow that: a response is never above 0,
        so that a layer with `activation="relu"` gives zeros, of which a warning tells.

    Raises:
        ValueError: a model of another kind, a name that is not in it, a layer without an adder
            form that is not named, or nothing to replace.

    Example:
        >>> teacher = pkkd_tf.models.build("digits_resnet", "convolution")
        >>> student = to_adders(teacher)
        >>> student.get_layer("stage1_block1_conv1").name, student.get_layer("stem_conv").name
        ('stage1_block1_conv1', 'stem_conv')
    """
    products = _products(model)
    kept = {products[0], products[-1]} if keep is None else {*keep}
    _check(model, products, kept)
    _warn_of_activations(model, kept)

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        kind = ADDERS.get(type(layer))
        if kind is None or layer.name in kept:
            return type(layer).from_config(config)
        return kind.from_config({k: v for k, v in config.items() if k not in INITIALIZERS})

    twin = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for layer in twin._flatten_layers():
        layer.trainable = True
    return twin


def _products(model: keras.Model) -> list[str]:
    """Names of the layers with weight matrices, in the order of their first calls."""
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` must be a functional or a built sequential model. Received: model={model!r}"
        )
    kinds = (*ADDERS, *OTHER_PRODUCTS)
    layers = [call.layer for call in calls(model)]
    found = [
        layer.name
        for layer in layers
        if isinstance(layer, kinds) and not isinstance(layer, ADDER_LAYERS)
    ]
    if not found:
        raise ValueError(
            "`model` must have convolutions or dense layers. "
            f"Received: model={model.name!r}, layers={[layer.name for layer in layers]}"
        )
    return found


def _check(model: keras.Model, products: list[str], kept: set[str]) -> None:
    layers = {call.layer.name: call.layer for call in calls(model)}
    others = [n for n in dict.fromkeys(products) if type(layers[n]) not in ADDERS and n not in kept]
    if others or not kept <= layers.keys():
        raise ValueError(
            "`keep` must hold names of layers of `model`, among them all that have products and no "
            f"adder form. Received: keep={sorted(kept)}, without adder form={others}, "
            f"layers={list(layers)}"
        )
    if kept >= {*products}:
        raise ValueError(
            "A layer with products must be left to replace. "
            f"Received: model={model.name!r}, products={products}, keep={sorted(kept)}"
        )


def _warn_of_activations(model: keras.Model, kept: set[str]) -> None:
    layers = {call.layer.name: call.layer for call in calls(model)}
    steep = {
        name: layer.activation.__name__
        for name, layer in layers.items()
        if type(layer) in ADDERS and name not in kept and layer.activation in DEAD_BELOW_ZERO
    }
    if steep:
        warnings.warn(
            "A response of an adder layer is never above 0, where these activations give 0 and no "
            "gradient: batch normalization should follow the layer without one, and then the "
            f"activation, as a layer of its own. Received: activations={steep}",
            stacklevel=3,
        )
