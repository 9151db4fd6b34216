"""From a trained network to one that computes in rounded numbers, and back."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D
from pkkd_tf.quantization import calibration
from pkkd_tf.quantization.fake_quantize import check_bits
from pkkd_tf.quantization.layers import (
    FakeQuantize,
    QuantizedAdderConv2D,
    QuantizedAdderDepthwiseConv2D,
    QuantizedConv2D,
    QuantizedDense,
)
from pkkd_tf.quantization.placement import ADDERS, adder_sources, rounded_tensors

QUANTIZED: dict[type, Any] = {
    AdderConv2D: QuantizedAdderConv2D,
    AdderDepthwiseConv2D: QuantizedAdderDepthwiseConv2D,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.Dense: QuantizedDense,
}
PLAIN: dict[type, Any] = {quantized: plain for plain, quantized in QUANTIZED.items()}
OWN_ARGUMENTS = ("bits", "filter_groups", "train_range")
TENSOR_BITS = 8
BATCH = 64
SUFFIX = "_quantize"


def quantize_model(
    model: keras.Model,
    calibration_images: np.ndarray,
    bits: int = 8,
    scale_groups: int = 1,
    train_ranges: bool = False,
) -> keras.Model:
    """Copies a trained network into one that computes in rounded numbers and can be trained on.

    Adder layers become `QuantizedAdderConv2D` (or `...DepthwiseConv2D`) of `bits`, convolutions
    and dense layers `QuantizedConv2D` and `QuantizedDense` of 8 bits, and the tensors between the
    operators of a deployed network (`rounded_tensors`) are rounded by `FakeQuantize` layers named
    after them (`stem_relu_quantize`). First convolution and classifier stay at 8 bits whatever
    `bits` is, as in AdderQuant: they are few operations and cost much accuracy.

    Ranges come from the calibration images as they go through `model`: what adder layers read gets
    the `best_range` for their responses, other tensors `tensor_range` of 8 bits. Two forms:

    - One group, ranges not trained: what an int8 file holds. A tensor that adder layers read has
      `bits` and one range for all of them, the best for their errors added up, each relative to
      its response. So it is rounded once, and residual additions read the same numbers.
    - Several groups, or trained ranges: all tensors have 8 bits, and each adder layer rounds its
      input again for itself, to `bits`, in the range of each group. A study of what is possible:
      an int8 file has no groups.

    Groups are found by k-means on the largest |w| of each filter (AdderQuant, Nie et al., NeurIPS
    2022, as far as is known of it); no more than there are different ones, and one where channels
    are grouped.

    Args:
        model: functional or sequential Keras model of one input, every layer called once.
        calibration_images: preprocessed images (N, H, W, C); about 100 serve. All tensors of all
            of them are held at once.
        bits: int from 2 to 8, of the inputs and filters of adder layers.
        scale_groups: int, most groups of filters in an adder layer.
        train_ranges: bool, whether optimizers change the ranges of the adder layers.

    Returns:
        A functional `keras.Model` with the weights of `model`, not compiled.

    Raises:
        ValueError: an argument out of its range, or a layer without a quantized form.

    Example:
        >>> quantized = quantize_model(student, data.sample(128), bits=4, scale_groups=4)
        >>> images, _ = next(iter(data.train(1024)))    # augmented
        >>> reestimate_batch_norm(quantized, images)
    """
    check_bits(bits)
    if not isinstance(scale_groups, int) or scale_groups < 1:
        raise ValueError(
            f"`scale_groups` must be a positive integer. Received: scale_groups={scale_groups!r}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "A network to quantize must map one tensor to one other. "
            f"Received: inputs={model.inputs}, outputs={model.outputs}"
        )
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    _check_layers(model)
    groups = {
        layer.name: group_filters(_filters(layer), scale_groups)
        for layer in model.layers
        if type(layer) is AdderConv2D and layer.groups == 1
    }
    readers = adder_sources(model)
    common = scale_groups == 1 and not train_ranges
    tensor_bits = dict.fromkeys(readers, bits) if common else {}
    copied = _rebuild(model, bits, groups, train_ranges, tensor_bits)
    _copy_weights(model, copied)
    _calibrate(model, copied, calibration_images, readers)
    return copied


def strip_quantization(model: keras.Model) -> keras.Model:
    """The plain network that a quantized one was made of, with its present weights.

    Args:
        model: what `quantize_model` returned, trained or not.

    Returns:
        A functional `keras.Model` without ranges and roundings; layers keep their names.

    Example:
        >>> strip_quantization(quantize_model(student, images)).save("student.keras")
    """

    def make(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) not in PLAIN:
            return type(layer).from_config(config)
        own = {k: v for k, v in config.items() if k not in OWN_ARGUMENTS}
        return PLAIN[type(layer)].from_config(own)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, FakeQuantize) else layer(*args, **kwargs)

    plain = keras.models.clone_model(model, clone_function=make, call_function=call)
    for layer in plain.layers:
        weights = model.get_layer(layer.name).weights[: len(layer.weights)]
        layer.set_weights([keras.ops.convert_to_numpy(w) for w in weights])
    return plain


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
            "filter_groups": list(getattr(layer, "filter_groups", [0] * layer.kernel.shape[-1])),
        }
        for layer in model.layers
        if isinstance(layer, QuantizedAdderConv2D | QuantizedAdderDepthwiseConv2D)
    }


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


def group_filters(filters: np.ndarray, count: int) -> list[int]:
    """Groups filters of similar extent: k-means on the largest |w| of each.

    Args:
        filters: array (kh, kw, C, O).
        count: int, most groups.

    Returns:
        For each filter its group, counted from 0 in the order of the extents.

    Example:
        >>> group_filters(np.array([[[[1.0, 5.0, 1.1, 5.2]]]]), 2)
        [0, 1, 0, 1]
    """
    from sklearn.cluster import KMeans  # a second of importing, for this alone

    extents = np.abs(filters).max((0, 1, 2))[:, None]
    count = min(count, len(np.unique(extents)))
    if count == 1:
        return [0] * len(extents)
    fitted = KMeans(count, n_init=10, random_state=0).fit(extents)
    rank = np.argsort(np.argsort(fitted.cluster_centers_[:, 0]))
    return [int(rank[label]) for label in fitted.labels_]


def _check_layers(model: keras.Model) -> None:
    for layer in model.layers:
        matrices = [tuple(w.shape) for w in layer.weights if len(w.shape) > 1]
        if matrices and type(layer) not in QUANTIZED:
            raise ValueError(
                f"A layer with a weight matrix must be one of {[t.__name__ for t in QUANTIZED]}. "
                f"Received: layer={layer.name!r}, type={type(layer).__name__}, weights={matrices}"
            )


def _rebuild(
    model: keras.Model,
    bits: int,
    groups: dict[str, list[int]],
    train_ranges: bool,
    tensor_bits: dict[str, int],
) -> keras.Model:
    rounded = set(rounded_tensors(model))
    images: dict[int, Any] = {}  # what stands for an input tensor

    def make(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        kind = QUANTIZED.get(type(layer), type(layer))
        if isinstance(layer, ADDERS):
            config |= {"bits": bits, "train_range": train_ranges}
        if layer.name in groups:
            config["filter_groups"] = groups[layer.name]
        return kind.from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args = keras.tree.map_structure(round_image, args)
        return rounding(layer.name, layer(*args, **kwargs))

    def round_image(tensor: Any) -> Any:
        source = tensor._keras_history.operation
        if not isinstance(source, keras.layers.InputLayer):
            return tensor
        if id(tensor) not in images:
            images[id(tensor)] = rounding(source.name, tensor)
        return images[id(tensor)]

    def rounding(name: str, tensor: Any) -> Any:
        if name not in rounded:
            return tensor
        own = tensor_bits.get(name, TENSOR_BITS)
        return FakeQuantize(own, dtype=tensor.dtype, name=name + SUFFIX)(tensor)

    (tensor,) = model.inputs
    name = tensor._keras_history.operation.name  # the tensor's own may be another one
    image = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
    return keras.models.clone_model(model, image, clone_function=make, call_function=call)


def _copy_weights(model: keras.Model, copied: keras.Model) -> None:
    """A layer's own weights come first; behind them are scales and zero points."""
    for layer in model.layers:
        for ours, theirs in zip(copied.get_layer(layer.name).weights, layer.weights):
            ours.assign(theirs)


def _calibrate(
    model: keras.Model, copied: keras.Model, images: np.ndarray, readers: dict[str, list[str]]
) -> None:
    names = list(tensor_ranges(copied))
    wanted = {name: model.get_layer(name).output for name in names}
    adders = [name for group in readers.values() for name in group]
    inputs = {f"{name} input": model.get_layer(name).input for name in adders}
    found = _outputs(keras.Model(model.input, {**wanted, **inputs}), images)
    for name in names:
        tensor = copied.get_layer(name + SUFFIX).range
        layers = [copied.get_layer(reader) for reader in readers.get(name, [])]
        samples = [found[f"{layer.name} input"] for layer in layers]
        if layers and _is_common(layers, tensor.bits):
            common = _common_range(layers, samples)
            for shared in (tensor, *(layer.range for layer in layers)):
                shared.assign([common])
            continue
        tensor.assign([calibration.tensor_range(found[name], tensor.bits)])
        for layer, x in zip(layers, samples):
            errors = [_error(layer, x, index) for index in range(layer.range.count)]
            layer.range.assign([calibration.search(x, error, layer.bits) for error in errors])


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


def _common_range(layers: list[Any], samples: list[np.ndarray]) -> tuple[float, float]:
    """One range for all layers that read a tensor: the best for their relative errors' sum."""
    errors = [_error(layer, x, 0) for layer, x in zip(layers, samples)]
    return calibration.search(
        samples[0], lambda low, high: sum(error(low, high) for error in errors), layers[0].bits
    )


def _error(layer: Any, x: np.ndarray, group: int) -> Callable[[float, float], float]:
    """How much the response of a layer's filters of one group errs, as a function of the range."""
    depthwise = isinstance(layer, AdderDepthwiseConv2D)
    filters = _filters(layer)
    if not depthwise:
        filters = filters[..., np.equal(layer.filter_groups, group)]
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    groups = x.shape[-1] if depthwise else layer.groups
    window = layer.strides, layer.padding.upper(), layer.dilation_rate, groups
    return calibration.response_error(x, filters, window, layer.bits)


def _filters(layer: Any) -> np.ndarray:
    """The filters of an adder layer as the operation takes them, float32."""
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float32")
    if isinstance(layer, AdderDepthwiseConv2D):
        return kernel.reshape(*kernel.shape[:2], 1, -1)
    return kernel
