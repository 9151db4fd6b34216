"""Counts the multiplications and additions of a network, layer by layer."""

import dataclasses
import math
from typing import Any

import keras

from pkkd_tf.analysis.records import LayerOperations
from pkkd_tf.analysis.walk import COUNTED, calls_by_layer, deployed, leaves
from pkkd_tf.graphs import Call
from pkkd_tf.layers import ADDER_LAYERS


def count_operations(model: keras.Model) -> list[LayerOperations]:
    """Operations of every layer for one image, by the convention of the adder papers.

    With `n` numbers in a layer's output and `k` terms in each of them:

        convolution, dense   n * k multiplications, n * k additions
        adder                0 multiplications, 2 * n * k additions (subtract, accumulate)
        transposed           as a convolution, n numbers of the input, each in k terms
        separable            its depthwise convolution and its 1x1 convolution

    and nothing for batch normalization, bias, activations, pooling and the absolute value. Taps
    on padding count. Sources: Chen et al., CVPR 2020 (arXiv 1912.13200); Xu et al., NeurIPS 2020
    (arXiv 2009.13044). Other papers count one addition an adder term: not comparable. A layer that
    is called several times costs as much as its calls.

    Args:
        model: a built `keras.Model`; nested models and layers inside layers are counted too. Of a
            `PKKD` the student is counted, which is what will be deployed.

    Returns:
        One `LayerOperations` a layer, in the model's order.

    Raises:
        ValueError: a layer is not built, its output size is unknown, or a layer or operation has a
            weight matrix or multiplies tensors and no rule here (recurrent, attention,
            time distributed, `keras.ops.matmul`, ...).

    Example:
        >>> layers = count_operations(pkkd_tf.models.resnet20())
        >>> sum(layer.multiplications for layer in layers)
        443008

    Limits: in a model that is not functional a layer counts once, at the image size that it was
    built for, however often it is called.
    """
    made = calls_by_layer(deployed(model))
    return [_count(layer, name, made.get(id(layer), [])) for layer, name in leaves(model)]


def _count(layer: Any, name: str, made: list[Call]) -> LayerOperations:
    if not layer.built:
        raise ValueError(
            "A model must be built before its operations can be counted. "
            f"Received: layer={name!r}, built=False"
        )
    shapes = [(tuple(c.inputs[0].shape[1:]), _shape(c.outputs)) for c in made if c.inputs]
    if isinstance(layer, COUNTED):
        shapes = shapes or [_built_shapes(layer)]
        record = LayerOperations(name, type(layer).__name__, shapes[0][1], layer.count_params())
        return _with_operations(layer, record, shapes)
    shape = _shape(made[0].outputs) if made else _called_shape(layer)
    return LayerOperations(name, type(layer).__name__, shape, layer.count_params())


def _with_operations(layer: Any, record: LayerOperations, shapes: list[Any]) -> LayerOperations:
    numbers = [math.prod(size or 0 for size in shape) for _, shape in shapes]  # 0: one is unknown
    if 0 in numbers:
        raise ValueError(
            "Operations can be counted for a known image size only: build the model with it. "
            f"Received: layer={record.name!r}, output_shape={record.output_shape}"
        )
    separable = isinstance(layer, keras.layers.SeparableConv2D)
    kernel = tuple((layer.depthwise_kernel if separable else layer.kernel).shape)
    outputs = sum(numbers)
    fan_in, terms = _terms(layer, kernel, outputs, [shape for shape, _ in shapes])
    adder = isinstance(layer, ADDER_LAYERS)
    return dataclasses.replace(
        record,
        multiplications=0 if adder else terms,
        additions=2 * terms if adder else terms,
        multiplying=not adder,
        kernel_shape=kernel,
        fan_in=fan_in,
        outputs=outputs,
    )


def _terms(layer: Any, kernel: tuple[int, ...], outputs: int, images: list[Any]) -> tuple[int, int]:
    """Terms in one output number, and in all."""
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return 0, sum(map(math.prod, images)) * math.prod(kernel[:3])
    if isinstance(layer, keras.layers.SeparableConv2D):
        channels = math.prod(kernel[2:])  # between its two convolutions
        pixels = outputs // layer.filters
        return 0, pixels * channels * (math.prod(kernel[:2]) + layer.filters)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    fan_in = math.prod(kernel[: 2 if depthwise else -1])
    return fan_in, fan_in * outputs


def _built_shapes(layer: Any) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    """Of the input that the layer was built for and its output, without the batch."""
    shape = layer.get_build_config()["input_shape"]
    return tuple(shape[1:]), tuple(layer.compute_output_shape(shape)[1:])


def _shape(outputs: list[Any]) -> tuple[int | None, ...] | None:
    """The shape of one output without the batch."""
    return tuple(outputs[0].shape[1:]) if len(outputs) == 1 else None


def _called_shape(layer: Any) -> tuple[int | None, ...] | None:
    """The output's shape without the batch where the layer was first called."""
    output: Any = getattr(layer, "output", None)
    return tuple(output.shape[1:]) if keras.backend.is_keras_tensor(output) else None
