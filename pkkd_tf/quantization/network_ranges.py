"""The ranges of a quantized network: what they are, and found on calibration images."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pkkd_tf.layers import AdderDepthwiseConv2D
from pkkd_tf.quantization import calibration
from pkkd_tf.quantization.dense import QuantizedAdderDense
from pkkd_tf.quantization.filter_groups import as_operation
from pkkd_tf.quantization.layers import QuantizedAdderConv2D, QuantizedAdderDepthwiseConv2D
from pkkd_tf.quantization.rounding import SUFFIX, FakeQuantize

QUANTIZED_ADDERS = (QuantizedAdderConv2D, QuantizedAdderDepthwiseConv2D, QuantizedAdderDense)
BATCH = 64


def ranges(model: keras.Model) -> dict[str, dict[str, Any]]:
    """The ranges of the adder layers of a quantized network.

    Args:
        model: what `quantize_model` returned, trained or not.

    Returns:
        Layer name -> `{"bits": int, "ranges": [(low, high), ...], "filter_groups": [int, ...]}`:
        one range a group, shared by the layer's inputs and the filters of the group, and the group
        of each filter.

    Example:
        >>> images = pkkd_tf.data.load("digits").sample(128)
        >>> network = pkkd_tf.models.build("digits_resnet")
        >>> quantized = pkkd_tf.quantization.quantize_model(network, images)
        >>> ranges(quantized)["stage1_block1_conv1"]["ranges"]    # [(low, high)]
    """
    return {
        layer.name: {
            "bits": layer.bits,
            "ranges": layer.range.ends(),
            "filter_groups": _filter_groups(layer),
        }
        for layer in model.layers
        if isinstance(layer, QUANTIZED_ADDERS)
    }


def _filter_groups(layer: Any) -> list[int]:
    found = getattr(layer, "filter_groups", None)
    return [0] * as_operation(layer).shape[-1] if found is None else list(found)


def tensor_ranges(model: keras.Model) -> dict[str, tuple[float, float]]:
    """The ranges of the tensors between operators of a quantized network.

    Args:
        model: what `quantize_model` returned, trained or not.

    Returns:
        Name of the layer whose output is rounded (of the input layer too) -> `(low, high)`.

    Example:
        >>> images = pkkd_tf.data.load("digits").sample(128)
        >>> network = pkkd_tf.models.build("digits_resnet")
        >>> quantized = pkkd_tf.quantization.quantize_model(network, images)
        >>> tensor_ranges(quantized)["stem_relu"]    # (low, high)
    """
    return {
        layer.name.removesuffix(SUFFIX): layer.range.ends()[0]
        for layer in model.layers
        if isinstance(layer, FakeQuantize)
    }


def calibrate_ranges(
    model: keras.Model,
    copied: keras.Model,
    images: np.ndarray,
    readers: dict[str, list[str]],
    tied: list[list[str]],
) -> None:
    """Gives every range of `copied` the values that suit `images` as they go through `model`.

    Args:
        model: the network before it was quantized.
        copied: the quantized network with its weights.
        images: preprocessed images (N, H, W, C).
        readers: name of the layer that makes a tensor -> names of the adder layers that read it.
        tied: names of all layers that make rounded tensors, in groups of those of one range.
    """
    tensors, inputs = _observed(model, images, readers, tied)
    for names in tied:
        rounding = [copied.get_layer(name + SUFFIX).range for name in names]
        reading = dict.fromkeys(reader for name in names for reader in readers.get(name, []))
        layers = [(copied.get_layer(reader), inputs[reader]) for reader in reading]
        values = [tensors[name] for name in names]
        if layers and _is_common([layer for layer, _ in layers], rounding[0].bits):
            _assign_common(rounding, values, layers)
        else:
            _assign_own(rounding, values, layers)


def _observed(
    model: keras.Model,
    images: np.ndarray,
    readers: dict[str, list[str]],
    tied: list[list[str]],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The rounded tensors by the layers that make them, and the inputs of adder layers by name."""
    tensors = {name: model.get_layer(name).output for names in tied for name in names}
    adders = dict.fromkeys(name for group in readers.values() for name in group)
    inputs = {name: model.get_layer(name).input for name in adders}
    wanted = keras.Model(model.input, {"tensors": tensors, "inputs": inputs})
    found = _outputs(wanted, images)
    return found["tensors"], found["inputs"]


def _outputs(model: keras.Model, images: np.ndarray) -> Any:
    parts = [
        keras.tree.map_structure(np.asarray, model(batch, training=False))
        for batch in np.array_split(images, -(-len(images) // BATCH))
    ]
    return keras.tree.map_structure(lambda *own: np.concatenate(own), *parts)


def _assign_common(rounding: list[Any], values: list[np.ndarray], layers: list[Any]) -> None:
    """One range for tensors and all that read them: the best for their relative errors' sum.

    Where a tensor has numbers beyond those that adder layers read, none is cut off.
    """
    widest, read = _extremes(values), _extremes([x for _, x in layers])
    errors = [_error(layer, x, 0) for layer, x in layers]

    def error(low: float, high: float) -> float:
        return sum(own(low, high) for own in errors)

    bits = rounding[0].bits
    if widest[0] < min(read[0], 0) or widest[1] > max(read[1], 0):
        common = calibration.nudged_range(min(widest[0], 0), max(widest[1], 0), bits)
    else:
        common = calibration.search(widest, error, bits)
    for shared in (*rounding, *(layer.range for layer, _ in layers)):
        shared.assign([common])


def _assign_own(rounding: list[Any], values: list[np.ndarray], layers: list[Any]) -> None:
    """One range for the tensors, and one for each group of each layer that reads them."""
    own = calibration.tensor_range(_joined(values), rounding[0].bits)
    for tensor in rounding:
        tensor.assign([own])
    for layer, x in layers:
        errors = [_error(layer, x, index) for index in range(layer.range.count)]
        layer.range.assign([calibration.search(x, error, layer.bits) for error in errors])


def _extremes(values: list[np.ndarray]) -> np.ndarray:
    return np.array([min(x.min() for x in values), max(x.max() for x in values)])


def _joined(values: list[np.ndarray]) -> np.ndarray:
    return values[0] if len(values) == 1 else np.concatenate([x.ravel() for x in values])


def _is_common(layers: list[Any], bits: int) -> bool:
    """Whether a tensor of `bits` and the layers that read it can have one range."""
    return all(
        layer.range.count == 1 and layer.bits == bits and not layer.train_range for layer in layers
    )


def _error(layer: Any, x: np.ndarray, group: int) -> Callable[[float, float], float]:
    """How much the response of a layer's filters of one group errs, as a function of the range."""
    filters = as_operation(layer)
    if isinstance(layer, QuantizedAdderDense):
        rows = x.reshape(-1, 1, 1, x.shape[-1])
        return calibration.response_error(rows, filters, (1, "VALID", 1, 1), layer.bits)
    depthwise = isinstance(layer, AdderDepthwiseConv2D)
    if not depthwise:
        filters = filters[..., np.equal(layer.filter_groups, group)]
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    groups = x.shape[-1] if depthwise else layer.groups
    window = layer.strides, layer.padding.upper(), layer.dilation_rate, groups
    return calibration.response_error(x, filters, window, layer.bits)
