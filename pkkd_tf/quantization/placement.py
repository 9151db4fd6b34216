"""Which tensors of a network are rounded: those a deployed network keeps between operators."""

from typing import Any

import keras

from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D
from pkkd_tf.quantization.checks import check_graph

ADDERS = (AdderConv2D, AdderDepthwiseConv2D)
# Their outputs are among the levels of their inputs.
KEEPING = (
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.MaxPooling2D,
    keras.layers.Dropout,
)
# What becomes a part of the operator before: nothing is stored in between.
FUSED = (
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Activation,
    keras.layers.MaxPooling2D,  # the largest of rounded numbers is the largest one, rounded
)


def rounded_tensors(model: keras.Model) -> list[str]:
    """Names of the layers whose outputs are rounded.

    A network is deployed as one operator for each layer that computes sums, with the batch
    normalization, residual addition, ReLU and max pooling that follow it inside. Rounded are the
    tensors between operators: images, what a ReLU gives, what is added to a residual branch (the
    branch itself is not), averages, logits. Not rounded: what only goes on into such a follower.

    Args:
        model: functional or built sequential model, of layers alone, called once each.

    Returns:
        Names in the model's order, that of the input layer included.

    Raises:
        ValueError: another kind of model, or a layer is called more than once.

    Example:
        >>> rounded_tensors(pkkd_tf.models.build("digits_resnet"))[:2]
        ['image', 'stem_relu']
    """
    check_graph(model)
    model = functional(model)
    readers: dict[str, list[tuple[Any, int]]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        for place, source in enumerate(sources(layer)):
            readers[source.name].append((layer, place))
    ends = {tensor._keras_history.operation.name for tensor in model.outputs}
    return [
        layer.name
        for layer in model.layers
        if not isinstance(layer, KEEPING)
        and (layer.name in ends or not _is_inside(readers[layer.name]))
    ]


def functional(model: keras.Model) -> keras.Model:
    """The functional form of `model`, which shows the input layer too.

    A sequential model is copied: each `add`, and so its loading too, calls all layers once more.
    """
    if isinstance(model, keras.Sequential):
        copied = keras.models.clone_model(model)
        copied.set_weights(model.get_weights())
        model = copied
    inputs, outputs = (t[0] if len(t) == 1 else t for t in (model.inputs, model.outputs))
    return keras.Model(inputs, outputs, name=model.name)


def adder_sources(model: keras.Model) -> dict[str, list[str]]:
    """For each layer whose output adder layers read, directly or padded, those layers' names."""
    found: dict[str, list[str]] = {}
    for layer in model.layers:
        if isinstance(layer, ADDERS):
            (source,) = sources(layer)
            while isinstance(source, KEEPING):
                (source,) = sources(source)
            found.setdefault(source.name, []).append(layer.name)
    return found


def sources(layer: keras.layers.Layer) -> list[Any]:
    """The layers whose outputs `layer` is called on, in the order of its arguments."""
    if isinstance(layer, keras.layers.InputLayer):
        return []
    if len(layer._inbound_nodes) != 1:
        raise ValueError(
            "Every layer of a network to quantize must be called once. "
            f"Received: layer={layer.name!r}, called {len(layer._inbound_nodes)} times"
        )
    return [t._keras_history.operation for t in layer._inbound_nodes[0].input_tensors]


def _is_inside(readers: list[tuple[Any, int]]) -> bool:
    """Whether a tensor never leaves the operator that makes it."""
    if len(readers) != 1:
        return False
    reader, place = readers[0]
    branch = isinstance(reader, keras.layers.Add) and place == 0
    return branch or isinstance(reader, FUSED)
