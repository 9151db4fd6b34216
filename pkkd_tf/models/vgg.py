"""VGG-small for CIFAR, with adders or with convolutions."""

import keras

from pkkd_tf.models.blocks import Blocks
from pkkd_tf.models.checks import check_arguments

WIDTHS = (128, 128, 256, 256, 512, 512)
SMALLEST = 8  # pixels that three pools leave one of


def vgg_small(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    kind: str = "adder",
    input_gradient: str = "clipped",
    name: str | None = None,
    norm_momentum: float = 0.9,
) -> keras.Model:
    """VGG-small: 128C3-128C3-MP-256C3-256C3-MP-512C3-512C3-MP-FC, 4.66 million weights.

    Batch normalization and ReLU follow each 3x3 layer; after every second one the 2x2 max pool
    comes first. Layers are named `conv0` to `conv5` and `head_dense`. Multiplying layers: `conv0`
    and `head_dense`.

    Args:
        num_classes: int, number of logits.
        input_shape: (height, width, channels), all known: the classifier sees every pixel.
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
        >>> vgg_small().output_shape
        (None, 10)
    """
    num_classes, input_shape = check_arguments(num_classes, input_shape)
    if None in input_shape or min(input_shape[:2]) < SMALLEST:
        raise ValueError(
            "VGG-small's classifier needs a known `input_shape`, of at least "
            f"{SMALLEST} x {SMALLEST} pixels. "
            f"Received: input_shape={input_shape!r}"
        )
    blocks = Blocks(kind, input_gradient, norm_momentum)
    inputs = x = keras.Input(input_shape, name="image")
    for index, width in enumerate(WIDTHS):
        layer = blocks.multiplying_conv if index == 0 else blocks.conv
        x = layer(x, width, 3, f"conv{index}")
        if index % 2:
            x = blocks.max_pool(x, 2, f"conv{index}_pool")
        x = blocks.norm_relu(x, f"conv{index}")
    x = keras.layers.Flatten("channels_last", name="flatten")(x)
    x = blocks.multiplying_dense(x, num_classes, "head_dense")
    return keras.Model(inputs, blocks.logits(x), name=name)
