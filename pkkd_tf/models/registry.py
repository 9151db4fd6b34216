"""The networks by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from pkkd_tf.models import resnet, vgg


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One network of the registry.

    Attributes:
        function: the builder.
        input_shape: its default (height, width, channels).
        num_classes: its default number of logits.
        multiplying: names of the layers that stay multiplications in the adder kind.
        norm_momentum: of its batch normalizations; the official code's 0.1 in PyTorch's terms.
    """

    function: Callable[..., keras.Model]
    input_shape: tuple[int, int, int]
    num_classes: int
    multiplying: tuple[str, ...] = ("stem_conv", "head_conv")
    norm_momentum: float = 0.9


MODELS = {
    "resnet20": ModelEntry(resnet.resnet20, (32, 32, 3), 10),
    "resnet32": ModelEntry(resnet.resnet32, (32, 32, 3), 10),
    "vgg_small": ModelEntry(vgg.vgg_small, (32, 32, 3), 10, ("conv0", "head_dense")),
    "resnet18": ModelEntry(resnet.resnet18, (224, 224, 3), 1000),
    "resnet50": ModelEntry(resnet.resnet50, (224, 224, 3), 1000),
    "digits_resnet": ModelEntry(resnet.digits_resnet, (8, 8, 1), 10),
}


def build(
    model_name: str,
    kind: str = "adder",
    num_classes: int | None = None,
    input_shape: Any = None,
    input_gradient: str = "clipped",
    name: str | None = None,
) -> keras.Model:
    """Builds a network of `MODELS` by its name.

    Args:
        model_name: a key of `MODELS`.
        kind: `"adder"` or `"convolution"`.
        num_classes: int, or None for the network's default.
        input_shape: (height, width, channels), or None for the network's default.
        input_gradient: `"clipped"` or `"sign"`, of the adder layers.
        name: the model's name, or None for `<model_name>_<kind>`.

    Returns:
        A functional `keras.Model` from images to logits.

    Raises:
        ValueError: `model_name` is unknown, or an argument is out of its range.

    Example:
        >>> teacher = build("resnet20", "convolution", num_classes=100)
        >>> student = build("resnet20", "adder", num_classes=100)
    """
    if model_name not in MODELS:
        raise ValueError(
            f"`model_name` must be one of {sorted(MODELS)}. Received: model_name={model_name!r}"
        )
    entry = MODELS[model_name]
    return entry.function(
        num_classes=entry.num_classes if num_classes is None else num_classes,
        input_shape=entry.input_shape if input_shape is None else input_shape,
        kind=kind,
        input_gradient=input_gradient,
        name=name or f"{model_name}_{kind}",
        norm_momentum=entry.norm_momentum,
    )
