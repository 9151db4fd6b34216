"""Residual blocks whose activations are computed again in the backward pass, not kept."""

import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation.fused_norm import fused
from pkkd_tf.distillation.matching import pass_through

BLOCK = re.compile(r"(stage\d+_block\d+)_")
LOGITS = "/logits"  # beside layers' names, in which there is no slash


def output_of(layer: Any, inputs: Any, outputs: Any) -> Any:
    """The last of a layer, its symbolic input and its symbolic output."""
    return outputs


class RecomputedNetwork:
    """A network to its logits and chosen responses, block by block.

    The activations inside of a residual block are not kept for the backward pass but computed
    again there (Chen et al., arXiv 1604.06174): about one more forward pass of time for every
    gradient that is asked for. What is computed is the same, batch normalization's moving
    statistics included: the second pass leaves them alone. On two gradients of one tape each
    recomputes.

    Args:
        model: functional or Sequential `keras.Model` whose layers `stageI_blockJ_...` make up its
            blocks.
        names: layers whose responses are wanted too.
        response: a layer's response as a symbolic tensor, of the layer, its input and its output;
            the output unless given.

    Raises:
        ValueError: the network has no such blocks, an activity regularizer, or a layer that draws
            random numbers, which would be others the second time.

    Example:
        >>> network = RecomputedNetwork(pkkd_tf.models.build("resnet20"), [])
        >>> network(images, training=True)[LOGITS]
    """

    def __init__(
        self, model: keras.Model, names: list[str], response: Callable[..., Any] = output_of
    ):
        _check(model, names)
        last: dict[str, keras.layers.Layer] = {}
        for layer in model.layers:
            found = BLOCK.match(layer.name)
            if found:
                last[found.group(1)] = layer
        images, calls, logits = pass_through(model)
        cuts = [images, *(calls[layer.name][-1] for layer in last.values()), logits]
        self._parts = []
        for block, start, end in zip([*last, None], cuts, cuts[1:]):
            own = [name for name in names if name.startswith(f"{block}_")]
            extra = {name: response(*calls[name]) for name in own}
            part = fused(keras.Model(start, {"end": end, **extra}))
            self._parts.append((part, block is not None))

    def __call__(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """Logits as `LOGITS` and the wanted responses by name."""
        results: dict[str, Any] = {}
        value = images
        for part, again in self._parts:
            outputs = (_recomputed if again else _plain)(part, value, training)
            value = outputs.pop("end")
            results.update(outputs)
        return {LOGITS: value, **results}


def _plain(part: keras.Model, value: Any, training: bool | None) -> dict[str, Any]:
    return dict(part(value, training=training))


def _recomputed(part: keras.Model, value: Any, training: bool | None) -> dict[str, Any]:
    first = [True]

    def run(x: Any) -> dict[str, Any]:
        if first:
            first.clear()
            return dict(part(x, training=training))
        with keras.StatelessScope():  # keeps what the layers assign away from their variables
            return dict(part(x, training=training))

    return tf.recompute_grad(run)(value)


def _check(model: keras.Model, names: list[str]) -> None:
    inside = [layer.name for layer in model.layers if BLOCK.match(layer.name)]
    outside = sorted(set(names) - set(inside))
    regularized = [x.name for x in model.layers if getattr(x, "activity_regularizer", None)]
    drawing = [x.name for x in model.layers if getattr(x, "seed_generator", None)]
    if not inside or outside or regularized or drawing:
        raise ValueError(
            "Recomputation needs residual blocks (layers stageI_blockJ_...) that hold every "
            "matched layer, no activity regularizers, and no layers that draw random numbers. "
            f"Received: model={model.name!r}, layers in blocks={len(inside)}, "
            f"matched outside={outside}, regularized={regularized}, "
            f"random={drawing}"
        )
