"""Student and teacher in the form that a training step calls: logits and matched responses."""

from collections.abc import Sequence
from typing import Any

import keras

from pkkd_tf.distillation.distance import distance_of
from pkkd_tf.distillation.fused_norm import fused
from pkkd_tf.distillation.matching import pass_through
from pkkd_tf.distillation.recomputation import LOGITS, RecomputedNetwork, output_of


def extractors(
    student: keras.Model,
    teacher: keras.Model | None,
    names: Sequence[str],
    kernel: str,
    recompute: bool,
) -> list[Any]:
    """Both networks, to their logits and to the responses that are compared.

    Args:
        student: functional (or built Sequential) Keras model.
        teacher: such a model, or None.
        names: of the matched layers.
        kernel: as of `FeatureMatching`: for `"rbf"` the teacher's responses are distances.
        recompute: bool, whether residual blocks are computed again in the backward pass.

    Returns:
        The student's and the teacher's, None without one: functions of images and `training` to
        `LOGITS` and the responses by name, which share the networks' layers.

    Raises:
        ValueError: a network that cannot be recomputed (`RecomputedNetwork`).
    """
    make = RecomputedNetwork if recompute else _extractor
    theirs = distance_of if kernel == "rbf" else output_of
    networks = (student, output_of), (teacher, theirs)
    return [n and make(n, list(names), response) for n, response in networks]


def _extractor(model: keras.Model, names: list[str], response: Any) -> keras.Model:
    images, calls, logits = pass_through(model)
    responses = {name: response(*calls[name]) for name in names}
    return fused(keras.Model(images, {LOGITS: logits, **responses}))
