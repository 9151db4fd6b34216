"""Layer records of a Keras model."""

import math
from typing import Any

import keras

from export.energy.records import LayerRecord
from pkkd_tf.analysis import LayerOperations, count_operations
from pkkd_tf.analysis.operations import calls_by_layer, deployed, leaves
from pkkd_tf.graphs import Call
from pkkd_tf.quantization import FakeQuantize, SharedRange

# Computed where the layer before writes its result, or only a change of shape: no traffic.
FUSED = (
    keras.layers.InputLayer,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.Activation,
    keras.layers.Softmax,
    keras.layers.Rescaling,
    keras.layers.ELU,
    keras.layers.Normalization,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.RandomFlip,
    keras.layers.RandomCrop,
    keras.layers.RandomTranslation,
    keras.layers.RandomRotation,
    keras.layers.RandomZoom,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.ZeroPadding2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Identity,
    FakeQuantize,
)
# As above, but the other operand lies in memory.
MERGING = (
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
)


def keras_records(model: keras.Model) -> list[LayerRecord]:
    """Operations, weights and memory traffic of every layer, for one image.

    Operations are those of `pkkd_tf.analysis.count_operations`. Traffic: a convolution, adder,
    dense or pooling layer reads its input and writes its output; normalization, activations,
    padding and reshaping are computed on the way and move nothing but their weights; a residual
    addition reads the shortcut. Zeros of a padding are not read. Batch normalization counts as a
    scale and an offset a channel, what it is after training. Roundings of a fine-tuned network are
    simulated and count nothing, neither they nor their ranges.

    Args:
        model: a built functional `keras.Model` for a known image size.

    Returns:
        One `LayerRecord` a layer, in the model's order.

    Raises:
        ValueError: as `count_operations`.

    Example:
        >>> records = keras_records(pkkd_tf.models.resnet20())
        >>> sum(record.additions for record in records)
        81183360

    A layer that is called several times reads its weights as often. Limits: operations that are no
    layers (`a + b` on Keras tensors) are not seen, and layers inside of subclassed models move
    their weights only.
    """
    made = calls_by_layer(deployed(model))
    pairs = zip(leaves(model), count_operations(model), strict=True)
    return [_record(layer, found, made.get(id(layer), [])) for (layer, _), found in pairs]


def _record(layer: Any, operations: LayerOperations, made: list[Call]) -> LayerRecord:
    traffic = [_traffic(layer, call) for call in made]
    reads, writes = (sum((one[side] for one in traffic), ()) for side in (0, 1))
    return LayerRecord(
        name=operations.name,
        type=operations.type,
        multiplications=operations.multiplications,
        additions=operations.additions,
        weights=_weights(layer) * max(len(made), 1),
        reads=reads,
        writes=writes,
    )


def _weights(layer: Any) -> int:
    if isinstance(layer, keras.layers.BatchNormalization):
        return 2 * layer.moving_mean.shape[0]
    ranges = getattr(layer, "range", None)  # of simulated rounding: a scale and a zero point each
    return layer.count_params() - (2 * ranges.count if isinstance(ranges, SharedRange) else 0)


def _traffic(layer: Any, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What one call reads and writes."""
    if isinstance(layer, FUSED):
        return (), ()
    reads = tuple(_size(_before_padding(tensor)) for tensor in call.inputs)
    if isinstance(layer, MERGING):
        return tuple(sorted(reads)[:-1]), ()
    writes = tuple(map(_size, call.outputs))
    if not isinstance(layer, keras.layers.SeparableConv2D):
        return reads, writes
    between = writes[0] // layer.filters * math.prod(layer.depthwise_kernel.shape[2:])
    return (*reads, between), (between, *writes)


def _before_padding(tensor: Any) -> Any:
    layer, call, _ = tensor._keras_history
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return _before_padding(layer._inbound_nodes[call].input_tensors[0])
    return tensor


def _size(tensor: Any) -> int:
    return math.prod(size or 1 for size in tensor.shape[1:])
