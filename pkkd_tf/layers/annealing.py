"""Annealing adder layers from l2 to l1 while they train."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.integers import integer
from pkkd_tf.layers.kinds import ADDER_LAYERS


def anneal_l2(model: keras.Model, optimizer: Any, steps: int, start: float = 1.0) -> None:
    """Lets the adder layers of `model` train on l2 distances that turn into l1 distances.

        Y = -(1 - w) sum |X - F| - w / 2 sum (X - F)^2
        w = start * max(0, 1 - optimizer.iterations / steps)

    The l2 response is a convolution and two norms, so an early training on it is as smooth as a
    convolution's. From step `steps` on the layers are adder layers and nothing else is computed;
    before, a step of ResNet-20 took 1.6 times as long (batch 64, a processor of 2 cores).
    Gradients: `pkkd_tf.ops.adder_conv2d` with `l2_weight = w`; the filters' is the same for every
    `w`, which is what the factor 1/2 is for.

    Idea: AdderNet's journal version (Chen et al., arXiv 2105.14202), which, as far as known, trains
    with `sum |X - F|^p` and lets `p` fall from 2 to 1. This is **not** that: a power between the
    two has no fast kernel, a mixture of the two ends has.

    The mixture is the training's alone. Tests, predictions, exports and files have the plain adder
    layer at all times; until `steps` its batch normalization's statistics are the mixture's, so
    what they show before then says little, and a network saved before then is of little use.
    Frozen layers are plain ones too.
    Nothing of it is saved: after a model was loaded, or compiled with another optimizer, call it
    again. `w` follows the optimizer's count of steps, so training goes on where a checkpoint of
    the optimizer left it, and steps that are left out do not count.

    Args:
        model: network whose layers are set, those of networks inside of it too; before the first
            training step, since a graph keeps what it was traced with.
        optimizer: the Keras optimizer that trains them: `model.optimizer` after `compile`.
        steps: int, updates until the l2 part is gone.
        start: float in (0, 1], `w` at the first step.

    Raises:
        ValueError: no adder layer, or one that cannot be annealed (in rounded numbers, say);
            `steps` or `start` out of its range.

    Example:
        >>> model = pkkd_tf.PKKD(pkkd_tf.models.build("resnet20", "adder"), method="plain")
        >>> model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
        >>> pkkd_tf.layers.anneal_l2(model.student, model.optimizer, steps=40_000)
    """
    length = integer(steps)
    if length is None or length < 1 or not 0 < start <= 1:
        raise ValueError(
            "`steps` must be an integer of at least 1 and `start` in (0, 1]. "
            f"Received: steps={steps!r}, start={start!r}"
        )

    def weight() -> tf.Tensor:  # a function, so that Keras does not save the optimizer with a layer
        done = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.float32)
        return start * tf.maximum(1 - done / length, 0.0)

    for layer in _adder_layers(model):
        layer.l2_weight = weight


def _adder_layers(model: keras.Model) -> list[Any]:
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, ADDER_LAYERS)]
    others = [a for a in layers if not any(type(a).call is kind.call for kind in ADDER_LAYERS)]
    if others or not layers:
        raise ValueError(
            "The network must have adder layers, and all of them must be of "
            f"{[kind.__name__ for kind in ADDER_LAYERS]}. Received: model={model.name!r}, "
            f"others={[f'{type(a).__name__} {a.name}' for a in others]}"
        )
    return layers
