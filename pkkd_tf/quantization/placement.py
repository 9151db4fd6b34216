"""Which tensors of a network are rounded: those a deployed network keeps between operators."""

from typing import Any

import keras

from pkkd_tf.copies import output_structure
from pkkd_tf.layers import ADDER_LAYERS, AdderConv2D, AdderDepthwiseConv2D
from pkkd_tf.quantization.checks import check_graph
from pkkd_tf.quantization.flattening import flattened, is_flat

# Their outputs are among the levels of their inputs.
KEEPING = (
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Concatenate,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Dropout,
)
# Whose inputs and output have one scale in an int8 file, whether it is among their levels or not.
TYING = (
    keras.layers.Concatenate,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.AveragePooling2D,
    keras.layers.UpSampling2D,
    keras.layers.Resizing,
)
SUMS = (
    *ADDER_LAYERS,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)
MERGING = (keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply)
# What an operator can still take in: all that may follow a sum, or a ReLU alone.
OPEN, RELU_ALONE, CLOSED = "open", "relu", "closed"
FUSED_ACTIVATIONS = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.relu6,
)


def rounded_tensors(model: keras.Model) -> list[str]:
    """Names of the layers whose outputs are rounded.

    A network is deployed as one operator for each layer that computes sums, with the batch
    normalization, residual addition, ReLU and max pooling that follow it inside. Rounded are the
    tensors between operators: images, what a ReLU gives, what is added to a residual branch (the
    branch itself, the first operand that an adder layer computes, is not), averages, logits. Not
    rounded: what only goes on into such a follower.

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
    readers = _readers(model)
    ends = {tensor._keras_history.operation.name for tensor in model.outputs}
    return [
        layer.name
        for layer in model.layers
        if not _keeps(layer) and (layer.name in ends or not _is_inside(layer, readers, ends))
    ]


def tied_tensors(model: keras.Model) -> list[list[str]]:
    """`rounded_tensors` in groups of those that share one range, as they do in an int8 file.

    TFLite neither joins tensors of several scales nor gives an average pooling, or an image of
    another size, another one.

    Args:
        model: as of `rounded_tensors`, functional.

    Returns:
        Names in the model's order; most groups have one.
    """
    group = {name: [name] for name in rounded_tensors(model)}
    for layer in model.layers:
        if isinstance(layer, TYING):
            tied = {name for source in [layer, *sources(layer)] for name in origins(source)}
            merged = [name for name in group if any(name in group[other] for other in tied)]
            group |= dict.fromkeys(merged, merged)
    return list({id(names): names for names in group.values()}.values())


def functional(model: keras.Model) -> keras.Model:
    """The functional form of `model`, which shows the input layer too, of layers called once.

    A sequential model is copied: each `add`, and so its loading too, calls all layers once more.
    So is one with networks inside of it, and one whose layers were called elsewhere.
    """
    if not is_flat(model):
        return flattened(model)
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, output_structure(model), name=model.name)


def adder_sources(model: keras.Model) -> dict[str, list[str]]:
    """For each layer whose output adder layers read, directly or padded, those layers' names."""
    found: dict[str, list[str]] = {}
    for layer in model.layers:
        if isinstance(layer, ADDER_LAYERS):
            for name in origins(*sources(layer)):
                found.setdefault(name, []).append(layer.name)
    return found


def origins(layer: keras.layers.Layer) -> list[str]:
    """Names of the layers whose levels the output of `layer` consists of; mostly its own."""
    if not _keeps(layer):
        return [layer.name]
    return [name for source in sources(layer) for name in origins(source)]


def is_nearest(layer: Any) -> bool:
    """Whether `layer` repeats pixels, channels last."""
    upsampling = isinstance(layer, keras.layers.UpSampling2D)
    return upsampling and (layer.interpolation, layer.data_format) == ("nearest", "channels_last")


def _keeps(layer: Any) -> bool:
    return isinstance(layer, KEEPING) or is_nearest(layer)


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


def _readers(model: keras.Model) -> dict[str, list[tuple[Any, int]]]:
    """For each layer those called on its output, and at which place of their arguments."""
    readers: dict[str, list[tuple[Any, int]]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        for place, source in enumerate(sources(layer)):
            readers[source.name].append((layer, place))
    return readers


def _is_inside(layer: Any, readers: dict[str, list[tuple[Any, int]]], ends: set[str]) -> bool:
    """Whether a tensor never leaves the operator that makes it."""
    if len(readers[layer.name]) != 1:
        return False
    ((reader, place),) = readers[layer.name]
    stage = _stage(layer)
    if isinstance(reader, keras.layers.MaxPooling2D):  # rounds nothing: what follows it decides
        return stage == OPEN and reader.name not in ends and _is_inside(reader, readers, ends)
    if _is_relu(reader):
        return stage != CLOSED
    if isinstance(reader, keras.layers.Add):
        return place == _taken_in(reader, readers, ends)
    return stage == OPEN and isinstance(reader, keras.layers.BatchNormalization)


def _taken_in(add: Any, readers: dict[str, list[tuple[Any, int]]], ends: set[str]) -> int | None:
    """Which operand's operator does the addition too: the first that an adder layer computes."""
    for place, operand in enumerate(sources(add)):
        alone = len(readers[operand.name]) == 1 and operand.name not in ends
        if alone and _stage(operand) == OPEN and _is_adders(operand):
            return place
    return None


def _is_adders(layer: Any) -> bool:
    """Whether an `OPEN` layer is an adder layer of images, or only normalizes what one gives."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return _is_adders(sources(layer)[0])
    return isinstance(layer, AdderConv2D | AdderDepthwiseConv2D)


def _stage(layer: Any) -> str:
    """What the operator that computes the output of `layer` can still take in."""
    if isinstance(layer, SUMS):
        return OPEN if layer.activation in (None, keras.activations.linear) else CLOSED
    if isinstance(layer, keras.layers.MaxPooling2D):
        return OPEN if _stage(sources(layer)[0]) == OPEN else CLOSED
    if isinstance(layer, keras.layers.BatchNormalization):
        return OPEN if _stage(sources(layer)[0]) == OPEN else RELU_ALONE
    return RELU_ALONE if isinstance(layer, MERGING) else CLOSED


def _is_relu(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return layer.activation in FUSED_ACTIVATIONS
    return isinstance(layer, keras.layers.ReLU)
