"""Networks inside of networks, layer by layer."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from pkkd_tf.copies import assign, input_like, take_in
from pkkd_tf.quantization.checks import check_graph


def is_flat(model: keras.Model) -> bool:
    """Whether a model is functional, of layers alone, each with no other call than in it."""
    return not isinstance(model, keras.Sequential) and all(
        not isinstance(layer, keras.Model) and len(layer._inbound_nodes) == 1
        for layer in model.layers
    )


def flattened(model: keras.Model) -> keras.Model:
    """A functional copy of a model, the layers of the networks inside of it among its own.

    Args:
        model: functional or built sequential model, as all inside of it are.

    Returns:
        A functional `keras.Model` with the weights of `model`. Layers keep their names; one inside
        of a network whose name another layer has is called "outer_inner".

    Raises:
        ValueError: another kind of model, or inside of one, or operations that are no layers.

    Example:
        >>> backbone = pkkd_tf.models.build("digits_resnet")
        >>> image = keras.Input((8, 8, 1))
        >>> flattened(keras.Model(image, backbone(image))).layers[1].name
        'stem_conv'
    """
    originals = dict(_leaves(model))
    names = {id(layer): name for name, layer in originals.items()}
    copies: dict[int, Any] = {}

    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return lambda *inputs, **_: _run(layer, inputs, copy)
        if id(layer) not in copies:
            config = {**layer.get_config(), "name": names[id(layer)]}
            copies[id(layer)] = type(layer).from_config(config)
        return copies[id(layer)]

    images = [input_like(tensor) for tensor in model.inputs]
    outputs = _run(model, images, copy)
    flat = keras.Model(images[0] if len(images) == 1 else images, outputs, name=model.name)
    for layer in originals.values():
        if id(layer) in copies:  # all but the inputs of networks
            assign(copies[id(layer)].weights, layer.weights)
    return take_in(flat)


def _run(network: Any, inputs: Any, copy: Callable[[Any], Any]) -> Any:
    """What the copies of the layers of `network` make of `inputs`."""
    graph = getattr(network, "_functional", network)  # a sequential model's
    return graph._run_through_graph(inputs, copy, lambda layer, *a, **k: layer(*a, **k))


def _leaves(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """The layers that are no networks, by names that no two have; outer ones keep theirs."""
    check_graph(model)
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    found = {layer.name: layer for layer in model.layers if layer not in nested}
    for network in nested:
        for name, layer in _leaves(network):
            if found.get(name, layer) is not layer:
                name = f"{network.name}_{name}"
            found[name] = layer
    yield from found.items()
