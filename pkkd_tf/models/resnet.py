"""Residual networks for CIFAR, ImageNet and the 8x8 digits, with adders or with convolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from pkkd_tf.models.blocks import Blocks
from pkkd_tf.models.checks import check_arguments

Shape = tuple[int | None, int | None, int]


def resnet20(
    num_classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """ResNet-20 for CIFAR: 3 stages (16, 32, 64 channels) of 3 basic blocks.

    Stem 3x3 convolution -> stages of 3x3 adders -> average pool -> 1x1 convolution -> batch
    normalization on the logits, as in AdderNet's official code (arXiv 1912.13200). A change of
    width takes a 1x1 adder at stride 2. Multiplying layers: `stem_conv`, `head_conv`.

    Args:
        num_classes: int, number of logits.
        input_shape: (height, width, channels); height and width may be None.
        kind: `"adder"` or `"convolution"`; layer names are the same in both.
        input_gradient: `"clipped"` or `"sign"`, see `pkkd_tf.ops.adder_conv2d`.
        name: string, the model's name.
        norm_momentum: float, of every batch normalization.

    Input shape:
        (N, *input_shape).

    Output shape:
        (N, num_classes): logits, no softmax.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: an argument is out of its range; the message names it.

    Example:
        >>> resnet20(num_classes=100).output_shape
        (None, 100)
    """
    options = (num_classes, input_shape, kind, input_gradient, name, norm_momentum)
    return _cifar_resnet(3, (16, 32, 64), *options)


def resnet32(
    num_classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """ResNet-32 for CIFAR: `resnet20` with 5 basic blocks a stage.

    Arguments, shapes and errors as `resnet20`.

    Example:
        >>> resnet32(num_classes=100).output_shape
        (None, 100)
    """
    options = (num_classes, input_shape, kind, input_gradient, name, norm_momentum)
    return _cifar_resnet(5, (16, 32, 64), *options)


def digits_resnet(
    num_classes: int = 10,
    input_shape: Shape = (8, 8, 1),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """ResNet-8 for 8x8 digits: `resnet20` with one block a stage and 8, 16, 32 channels.

    Arguments, shapes and errors as `resnet20`.

    Example:
        >>> digits_resnet(kind="convolution").output_shape
        (None, 10)
    """
    options = (num_classes, input_shape, kind, input_gradient, name, norm_momentum)
    return _cifar_resnet(1, (8, 16, 32), *options)


def resnet18(
    num_classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """ResNet-18 for ImageNet: 4 stages (64 to 512 channels) of 2 basic blocks.

    Stem 7x7 convolution at stride 2 -> 3x3 max pool at stride 2 -> stages of adders -> average
    pool -> 1x1 convolution with bias -> batch normalization on the logits. For small images say
    so in `input_shape`, for example (64, 64, 3). Multiplying layers: `stem_conv`, `head_conv`.
    Arguments, shapes and errors as `resnet20`.

    Example:
        >>> resnet18(200, input_shape=(64, 64, 3)).output_shape
        (None, 200)
    """
    options = (num_classes, input_shape, kind, input_gradient, name, norm_momentum)
    return _imagenet_resnet(Blocks.basic_block, (2, 2, 2, 2), *options)


def resnet50(
    num_classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """ResNet-50 for ImageNet: `resnet18` with 3, 4, 6, 3 bottlenecks, the stride in their 3x3.

    Arguments, shapes and errors as `resnet20`.

    Example:
        >>> resnet50().output_shape
        (None, 1000)
    """
    options = (num_classes, input_shape, kind, input_gradient, name, norm_momentum)
    return _imagenet_resnet(Blocks.bottleneck_block, (3, 4, 6, 3), *options)


def _cifar_resnet(
    depth: int,
    widths: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    kind: str,
    input_gradient: str,
    name: str | None,
    norm_momentum: float,
) -> keras.Model:
    num_classes, input_shape = check_arguments(num_classes, input_shape)
    blocks = Blocks(kind, input_gradient, norm_momentum)
    inputs = keras.Input(input_shape, name="image")
    x = blocks.multiplying_conv(inputs, widths[0], 3, "stem_conv")
    x = blocks.norm_relu(x, "stem")
    x = _stages(blocks, Blocks.basic_block, x, [depth] * len(widths), widths)
    return keras.Model(inputs, blocks.pooled_head(x, num_classes), name=name)


def _imagenet_resnet(
    block: Callable[..., Any],
    depths: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    kind: str,
    input_gradient: str,
    name: str | None,
    norm_momentum: float,
) -> keras.Model:
    num_classes, input_shape = check_arguments(num_classes, input_shape)
    blocks = Blocks(kind, input_gradient, norm_momentum)
    inputs = keras.Input(input_shape, name="image")
    x = blocks.multiplying_conv(inputs, 64, 7, "stem_conv", stride=2)
    x = blocks.max_pool(blocks.norm_relu(x, "stem"), 3, "stem_pool", pad=1)
    x = _stages(blocks, block, x, depths, (64, 128, 256, 512))
    return keras.Model(inputs, blocks.pooled_head(x, num_classes, use_bias=True), name=name)


def _stages(
    blocks: Blocks, block: Callable[..., Any], x: Any, depths: Sequence[int], widths: Sequence[int]
) -> Any:
    """Stages of blocks; every stage but the first begins at stride 2."""
    for stage, (depth, width) in enumerate(zip(depths, widths), start=1):
        for index in range(1, depth + 1):
            stride = 2 if stage > 1 and index == 1 else 1
            x = block(blocks, x, width, stride, f"stage{stage}_block{index}")
    return x
