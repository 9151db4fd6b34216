"""What `tf.distribute` strategies ask of a `PKKD` that is compiled."""

from typing import Any

import tensorflow as tf


def check_scope(model: Any, optimizers: tuple[Any, ...]) -> None:
    """Raises `ValueError` for what is trained and was not made in the scope of this strategy.

    Replicas would have one variable for all of them: each would update it, one after the other.
    """
    made_here = tf.distribute.get_strategy().extended.variable_created_in_scope
    ours = [*model.student_variables, *model.teacher_variables, *model.monitor.variables]
    of_optimizers = [v for optimizer in optimizers if optimizer for v in optimizer.variables]
    others = [v.path for v in ours + of_optimizers if not made_here(v.value)]
    if others:
        strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        raise ValueError(
            "Networks, optimizers, PKKD and its `compile` belong in the scope of one strategy "
            "(`with strategy.scope():`). Received: "
            f"strategy={strategy and type(strategy).__name__}, "
            f"{len(others)} variables made outside of its scope, first={others[0]!r}"
        )


def sums_over_replicas(model: Any) -> bool:
    """Whether replicas sum tensors in the backward pass; `ValueError` where they cannot.

    A gradient through synchronised batch normalization sums over replicas, which TensorFlow cannot
    do inside of a condition.
    """
    networks = [model.student, *([model.teacher] if model.teacher else [])]
    layers = [layer for network in networks for layer in network._flatten_layers()]
    synchronised = any(getattr(layer, "synchronized", False) for layer in layers)
    synchronised = synchronised and tf.distribute.has_strategy()
    if synchronised and model.monitor.every > 1:
        raise ValueError(
            "Networks with synchronised batch normalization are measured at every step or never: "
            "`monitor_every` must be 1, or 0 with a fixed `beta`. "
            f"Received: monitor_every={model.monitor_every}"
        )
    return synchronised
