"""The ranges of a quantized network: what they are, and found on calibration images."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pkkd_tf.layers import AdderDepthwiseConv2D
from pkkd_tf.quantization import calibration
from pkkd_tf.quantization.dense import QuantizedAdderDense
from pkkd_tf.quantization.filter_groups import as_operation
from pkkd_tf.quantization.layers import (
    FakeQuantize,
    QuantizedAdderConv2D,
    QuantizedAdderDepthwiseConv2D,
)

QUANTIZED_ADDERS = (QuantizedAdderConv2D, QuantizedAdderDepthwiseConv2D, QuantizedAdderDense)
BATCH = 64
SUFFIX = "_quantize"


def ranges(model: keras.Model) -> dict[str, dict[str, Any]]:
    """The ranges of the adder layers of a quantized network.

    Args:
        model: what `quantize_model` returned, trained or not.

    Returns:
        Layer name -> `{"bits": int, "ranges": [(low, high), ...], "filter_groups": [int, ...]}`:
        one range a group, shared by the layer's inputs and the filters of the group, and the group
        of each filter.

    Example:
        >>> ranges(quantized)["stage1_block1_conv1"]["ranges"]
        [(0.0, 3.94)]
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
        >>> tensor_ranges(quantized)["stem_relu"]
        (0.0, 3.94)
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
    wanted = {name: model.get_layer(name).output for names in tied for name in names}
    adders = dict.fromkeys(name for group in readers.values() for name in group)
    inputs = {f"{name} input": model.get_layer(name).input for name in adders}
    found = _outputs(keras.Model(model.input, {**wanted, **inputs}), images)
    for names in tied:
        tensors = [copied.get_layer(name + SUFFIX).range for name in names]
        reading = dict.fromkeys(reader for name in names for reader in readers.get(name, []))
        layers = [copied.get_layer(reader) for reader in reading]
        samples = [found[f"{reader} input"] for reader in reading]
        values = [found[name] for name in names]
        if layers and _is_common(layers, tensors[0].bits):
            common = _common_range(layers, samples, _extremes(values))
            for shared in (*tensors, *(layer.range for layer in layers)):
                shared.assign([common])
            continue
        own = calibration.tensor_range(_joined(values), tensors[0].bits)
        for tensor in tensors:
            tensor.assign([own])
        for layer, x in zip(layers, samples):
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


def _outputs(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    parts = [
        keras.tree.map_structure(np.asarray, model(batch, training=False))
        for batch in np.array_split(images, -(-len(images) // BATCH))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _common_range(
    layers: list[Any], samples: list[np.ndarray], widest: np.ndarray
) -> tuple[float, float]:
    """One range for all layers that read a tensor: the best for their relative errors' sum."""
    errors = [_error(layer, x, 0) for layer, x in zip(layers, samples)]
    return calibration.search(
        widest, lambda low, high: sum(error(low, high) for error in errors), layers[0].bits
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
