"""A network built again of layers that compute in rounded numbers."""

from typing import Any

import keras

from pkkd_tf.copies import input_like
from pkkd_tf.layers import ADDER_LAYERS, AdderConv2D, AdderDense, AdderDepthwiseConv2D
from pkkd_tf.quantization.dense import QuantizedAdderDense
from pkkd_tf.quantization.layers import QuantizedAdderConv2D, QuantizedAdderDepthwiseConv2D
from pkkd_tf.quantization.products import (
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from pkkd_tf.quantization.rounding import SUFFIX, FakeQuantize

QUANTIZED: dict[type, Any] = {
    AdderConv2D: QuantizedAdderConv2D,
    AdderDepthwiseConv2D: QuantizedAdderDepthwiseConv2D,
    AdderDense: QuantizedAdderDense,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.Conv2DTranspose: QuantizedConv2DTranspose,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    keras.layers.Dense: QuantizedDense,
}


class Roundings:
    """What stands behind the tensors of a network: their roundings.

    Args:
        bits: name of each layer whose output is rounded, of the input layer too -> bits.
    """

    def __init__(self, bits: dict[str, int]):
        self.bits = bits
        self._images: dict[int, Any] = {}

    def of(self, name: str, tensor: Any) -> Any:
        """What stands for the output of the layer `name`: rounded, or as it is."""
        if name not in self.bits:
            return tensor
        return FakeQuantize(self.bits[name], dtype=tensor.dtype, name=name + SUFFIX)(tensor)

    def of_image(self, tensor: Any) -> Any:
        """What a layer reads for `tensor`: an image is rounded once for all layers that read it."""
        source = tensor._keras_history.operation
        if not isinstance(source, keras.layers.InputLayer):
            return tensor
        if id(tensor) not in self._images:
            self._images[id(tensor)] = self.of(source.name, tensor)
        return self._images[id(tensor)]


def rebuilt(
    model: keras.Model,
    bits: int,
    groups: dict[str, list[int]],
    train_ranges: bool,
    tensor_bits: dict[str, int],
) -> keras.Model:
    """A copy of a network in rounded numbers, its weights and ranges not set yet.

    Args:
        model: functional `keras.Model` of one input, of layers alone.
        bits: int from 2 to 8, of the adder layers.
        groups: name of an adder layer -> the group of each filter; one group where it is missing.
        train_ranges: bool, whether optimizers change the ranges of the adder layers.
        tensor_bits: name of each layer whose output is rounded, of the input layer too -> bits.

    Returns:
        A functional `keras.Model`; layers keep their names.
    """
    roundings = Roundings(tensor_bits)

    def make(layer: keras.layers.Layer) -> keras.layers.Layer:
        return _quantized(layer, bits, groups, train_ranges)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args = keras.tree.map_structure(roundings.of_image, args)
        return roundings.of(layer.name, layer(*args, **kwargs))

    image = input_like(*model.inputs)
    return keras.models.clone_model(model, image, clone_function=make, call_function=call)


def _quantized(
    layer: keras.layers.Layer, bits: int, groups: dict[str, list[int]], train_ranges: bool
) -> keras.layers.Layer:
    """A layer of the same arguments, in rounded numbers where there is a form of it."""
    config = layer.get_config()
    if isinstance(layer, ADDER_LAYERS):
        config |= {"bits": bits, "train_range": train_ranges}
    if layer.name in groups:
        config["filter_groups"] = groups[layer.name]
    return QUANTIZED.get(type(layer), type(layer)).from_config(config)
