"""What a functional network calls."""

import dataclasses
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or an operation in a network.

    Attributes:
        layer: what is called; a network itself too, before what it calls.
        inputs: symbolic tensors that it is called on; none for an input of the network.
        outputs: symbolic tensors that it gives.
        number: of this call among all that were ever made of the layer.
    """

    layer: Any
    inputs: list[Any]
    outputs: list[Any]
    number: int


def calls(model: keras.Model, inside: bool = True) -> list[Call]:
    """The calls that one call of a network makes, as often as it does, inputs before outputs.

    Args:
        model: functional or built sequential model; another kind makes none.
        inside: whether the calls that networks inside of it make are among them.

    Example:
        >>> x = keras.Input((4,))
        >>> shared = keras.layers.Dense(4)
        >>> [call.layer is shared for call in calls(keras.Model(x, shared(shared(x))))]
        [False, True, True]
    """
    graph = getattr(model, "_functional", model)  # a sequential model's
    nodes = getattr(graph, "_nodes_by_depth", {})
    found = []
    for depth in sorted(nodes, reverse=True):
        for node in nodes[depth]:
            layer = node.operation
            number = layer._inbound_nodes.index(node)
            found.append(Call(layer, list(node.input_tensors), list(node.outputs), number))
            found += calls(layer) if inside else []
    return found
