"""The teacher's optimizer: a copy of the student's unless it is given."""

from typing import Any

import keras

SCALED = keras.optimizers.LossScaleOptimizer
EXCLUDED = "_exclude_from_weight_decay_pattern"


def teachers(optimizer: Any, students: Any) -> Any:
    """The given optimizer or a copy of the student's; it scales losses if the student's does."""
    optimizer = optimizer or copied(students)
    if isinstance(students, SCALED) and not isinstance(optimizer, SCALED):
        return SCALED(optimizer)
    return optimizer


def copied(optimizer: Any) -> Any:
    """An optimizer of the same arguments, not built.

    Schedules and functions as learning rates are shared: they hold no state, and need not be ones
    that Keras can write to a file. What is left out of the weight decay by name stays so.

    Args:
        optimizer: Keras optimizer.

    Example:
        >>> copied(pkkd_tf.optimizers.AdderSGD(lambda: 0.1)).learning_rate
        0.1
    """
    if isinstance(optimizer, SCALED):
        options = optimizer.initial_scale, optimizer.dynamic_growth_steps, optimizer.name
        return type(optimizer)(copied(optimizer.inner_optimizer), *options)
    copy = type(optimizer).from_config(_arguments(optimizer))
    if getattr(optimizer, EXCLUDED, None):
        copy.exclude_from_weight_decay(var_names=[getattr(optimizer, EXCLUDED).pattern])
    return copy


def _arguments(optimizer: Any) -> dict[str, Any]:
    """The configuration, with a schedule or a function itself as the learning rate."""
    rate = optimizer._learning_rate
    if not callable(rate):
        return optimizer.get_config()
    optimizer._learning_rate = 0.0  # Keras need not describe the other one
    try:
        return {**optimizer.get_config(), "learning_rate": rate}
    finally:
        optimizer._learning_rate = rate
