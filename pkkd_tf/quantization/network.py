"""From a trained network to one that computes in rounded numbers, and back."""

from typing import Any

import keras
import numpy as np

from pkkd_tf.copies import assign, take_in
from pkkd_tf.integers import integer
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.quantization.checks import check_ends, check_graph, check_images, check_layers
from pkkd_tf.quantization.fake_quantize import check_bits
from pkkd_tf.quantization.filter_groups import as_operation, group_filters
from pkkd_tf.quantization.network_ranges import calibrate_ranges
from pkkd_tf.quantization.placement import adder_sources, functional, tied_tensors
from pkkd_tf.quantization.rebuilding import QUANTIZED, rebuilt
from pkkd_tf.quantization.rounding import FakeQuantize

PLAIN: dict[type, Any] = {quantized: plain for plain, quantized in QUANTIZED.items()}
OWN_ARGUMENTS = ("bits", "filter_groups", "train_range")
TENSOR_BITS = 8


def quantize_model(
    model: keras.Model,
    calibration_images: np.ndarray,
    bits: int = 8,
    scale_groups: int = 1,
    train_ranges: bool = False,
) -> keras.Model:
    """Copies a trained network into one that computes in rounded numbers and can be trained on.

    Adder layers become `QuantizedAdderConv2D` (`...DepthwiseConv2D`, `...Dense`) of `bits`,
    convolutions and dense layers `QuantizedConv2D` (`...DepthwiseConv2D`, `...Conv2DTranspose`)
    and `QuantizedDense` of 8 bits, and the tensors between the operators of a deployed network
    (`rounded_tensors`) are rounded by `FakeQuantize` layers named after them
    (`stem_relu_quantize`). First convolution and classifier stay at 8 bits whatever `bits` is, as
    in AdderQuant: they are few operations and cost much accuracy.

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
        model: functional or sequential Keras model of one float input, of layers and of such
            models (no `a + b` of Keras tensors), every one called once. The layers of models
            inside of it become layers of the copy (a backbone's, of a transfer).
        calibration_images: preprocessed images (N, H, W, C); about 100 serve. All tensors of all
            of them are held at once.
        bits: int from 2 to 8, of the inputs and filters of adder layers.
        scale_groups: int, most groups of filters in an adder layer.
        train_ranges: bool, whether optimizers change the ranges of the adder layers.

    Returns:
        A functional `keras.Model` with the weights of `model`, not compiled.

    Raises:
        ValueError: an argument out of its range, another kind of model, no images, or a layer
            without a quantized form.

    Example:
        >>> data, student = pkkd_tf.data.load("digits"), pkkd_tf.models.build("digits_resnet")
        >>> quantized = quantize_model(student, data.sample(128), bits=4, scale_groups=4)
        >>> images, _ = next(iter(data.train(1024)))    # augmented
        >>> pkkd_tf.quantization.reestimate_batch_norm(quantized, images)
    """
    bits, most_groups = check_bits(bits), integer(scale_groups)
    if most_groups is None or most_groups < 1:
        raise ValueError(
            f"`scale_groups` must be a positive integer. Received: scale_groups={scale_groups!r}"
        )
    check_graph(model)
    check_ends(model)
    check_images(calibration_images, 1)
    model = functional(model)
    check_layers(model, QUANTIZED)
    groups = {
        layer.name: group_filters(as_operation(layer), most_groups)
        for layer in model.layers
        if type(layer) is AdderConv2D and layer.groups == 1
    }
    readers, tied = adder_sources(model), tied_tensors(model)
    common = most_groups == 1 and not train_ranges
    tensor_bits = _tensor_bits(tied, readers, bits if common else TENSOR_BITS)
    copied = rebuilt(model, bits, groups, train_ranges, tensor_bits)
    _copy_weights(model, copied)
    calibrate_ranges(model, copied, calibration_images, readers, tied)
    return copied


def strip_quantization(model: keras.Model) -> keras.Model:
    """The plain network that a quantized one was made of, with its present weights.

    Args:
        model: what `quantize_model` returned, trained or not.

    Returns:
        A functional `keras.Model` without ranges and roundings; layers keep their names.

    Example:
        >>> images = pkkd_tf.data.load("digits").sample(128)
        >>> quantized = quantize_model(pkkd_tf.models.build("digits_resnet"), images)
        >>> strip_quantization(quantized).save("student.keras")
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
        assign(layer.weights, weights)
    return take_in(plain)


def _tensor_bits(tied: list[list[str]], readers: dict[str, list[str]], bits: int) -> dict[str, int]:
    """Of each rounded tensor: `bits` where adder layers read it or one of its range."""
    return {
        name: bits if readers.keys() & {*names} else TENSOR_BITS for names in tied for name in names
    }


def _copy_weights(model: keras.Model, copied: keras.Model) -> None:
    """A layer's own weights come first; behind them are scales and zero points."""
    for layer in model.layers:
        assign(copied.get_layer(layer.name).weights, layer.weights)
    take_in(copied)
