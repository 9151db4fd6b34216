"""Counts the multiplications and additions of a network, layer by layer."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras

from pkkd_tf.distillation import PKKD
from pkkd_tf.graphs import Call, calls
from pkkd_tf.layers import AdderConv2D, AdderDense, AdderDepthwiseConv2D

ADDERS = (AdderConv2D, AdderDepthwiseConv2D, AdderDense)
NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
ELEMENTWISE = (*NORMS, keras.layers.Normalization, keras.layers.PReLU)
PRODUCTS = (
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.Dot,
    keras.layers.TimeDistributed,
)
PRODUCT_OPERATIONS = ("Matmul", "Dot", "Einsum", "Tensordot", "Inner", "Outer", "Vdot", "Conv")
COUNTED = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)


@dataclasses.dataclass(frozen=True)
class LayerOperations:
    """What one layer costs for one image.

    Attributes:
        name: the layer's name; inside a nested model or layer after that one's name and a slash.
        type: the layer's class.
        output_shape: of the first call, without the batch dimension; None where Keras keeps none
            (a layer without weights outside a functional model).
        parameters: number of weights, those that are not trained included.
        multiplications: number of multiplications.
        additions: number of additions.
        multiplying: whether the layer is a convolution or a dense layer and no adder.
        kernel_shape: shape of the filters; () for a layer that counts as nothing, as below.
        fan_in: number of terms in one output number; 0, also where they differ (transposed).
        outputs: number of output numbers, of all calls; 0.
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...] | None
    parameters: int
    multiplications: int = 0
    additions: int = 0
    multiplying: bool = False
    kernel_shape: tuple[int, ...] = ()
    fan_in: int = 0
    outputs: int = 0


def count_operations(model: keras.Model) -> list[LayerOperations]:
    """Operations of every layer for one image, by the convention of the adder papers.

    With `n` numbers in a layer's output and `k` terms in each of them:

        convolution, dense   n * k multiplications, n * k additions
        adder                0 multiplications, 2 * n * k additions (subtract, accumulate)
        transposed           as a convolution, n numbers of the input, each in k terms

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
            weight matrix or multiplies tensors and no rule here (recurrent, separable, attention,
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


def calls_by_layer(model: keras.Model) -> dict[int, list[Call]]:
    """The calls of each layer, by its `id`, in the order in which they were made."""
    found: dict[int, list[Call]] = {}
    for call in sorted(calls(model), key=lambda call: call.number):
        found.setdefault(id(call.layer), []).append(call)
    return found


def deployed(model: keras.Model) -> keras.Model:
    """The student of a `PKKD`, any other model itself."""
    return model.student if isinstance(model, PKKD) else model


def leaves(model: keras.Model) -> list[tuple[Any, str]]:
    """The layers that are counted: those that hold no others, each once, with their path of names.

    Args:
        model: as of `count_operations`.

    Raises:
        ValueError: a layer or operation has no rule.
    """
    return list(_leaves(deployed(model), "", set()))


def _leaves(layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    _check_has_a_rule(layer)
    if isinstance(layer, keras.Model):
        inner = layer.layers
    else:
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
    for child in inner:
        yield from _leaves(child, f"{prefix}{child.name}/", seen)
    if not inner:
        yield layer, prefix.rstrip("/")
    elsewhere = {id(weight) for child in inner for weight in child.weights}
    own = [weight for weight in layer.weights if id(weight) not in elsewhere]
    if not isinstance(layer, COUNTED + ELEMENTWISE):
        _check_has_no_matrix(layer, own)


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
    kernel, outputs = tuple(layer.kernel.shape), sum(numbers)
    fan_in, terms = _terms(layer, kernel, outputs, [shape for shape, _ in shapes])
    adder = isinstance(layer, ADDERS)
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


def _check_has_a_rule(layer: Any) -> None:
    """Products that leave no weights behind."""
    operations = [
        operation.name
        for operation in getattr(layer, "operations", [])
        if not isinstance(operation, keras.layers.Layer)
        and type(operation).__name__.startswith(PRODUCT_OPERATIONS)
    ]
    if operations or isinstance(layer, PRODUCTS):
        raise ValueError(
            "What multiplies tensors must be a Conv2D, Conv2DTranspose, DepthwiseConv2D, Dense or "
            "an adder of their kind, called on images, to be counted. "
            f"Received: layer={layer.name!r}, type={type(layer).__name__}, operations={operations}"
        )


def _check_has_no_matrix(layer: Any, weights: list[Any]) -> None:
    shapes = [tuple(weight.shape) for weight in weights]
    if any(len(shape) > 1 for shape in shapes):
        raise ValueError(
            "A layer with a weight matrix must be a Conv2D, Conv2DTranspose, DepthwiseConv2D, "
            f"Dense or an adder of their kind to be counted. Received: layer={layer.name!r}, "
            f"type={type(layer).__name__}, weights={shapes}"
        )
