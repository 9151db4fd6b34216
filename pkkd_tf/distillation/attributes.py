"""What the parts of `PKKD` use of each other."""

from collections.abc import Callable
from typing import Any

import keras

from pkkd_tf.distillation.feature_matching import FeatureMatching
from pkkd_tf.distillation.features import FeatureLoss
from pkkd_tf.distillation.monitor import LayerMonitor


class WithAttributes(keras.Model):
    """A Keras model with the attributes that `PKKD` sets and its parts use.

    `__init__` sets the arguments of `PKKD` and what they come to, `compile` how steps are done.
    """

    student: keras.Model
    teacher: keras.Model | None
    method: str
    alpha: float
    temperature: float
    beta: float | None
    feature_share: float
    matching: FeatureMatching
    teacher_mode: str
    monitor_every: int

    matched_layers: list[str]
    pairs: list[FeatureLoss]
    monitor: LayerMonitor
    student_variables: Any
    teacher_variables: Any

    teacher_optimizer: Any
    accumulate_steps: int
    skip_nonfinite: bool
    recompute: bool
    prepare_batch: Callable[[Any], Any] | None
    _extractors: Any  # a function that gives both networks' forms, once compiled
