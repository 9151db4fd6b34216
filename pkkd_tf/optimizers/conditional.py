"""Updates that all replicas make, or none."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

Update = tuple[Any, Sequence[Any], Sequence[Any]]


def apply_if(condition: tf.Tensor, updates: Sequence[Update]) -> None:
    """Applies gradients by several optimizers, or leaves variables and optimizers as they are.

    Call in the replica context, with the same condition in every replica (`all_replicas`).

    Args:
        condition: scalar bool tensor.
        updates: (optimizer, gradients, variables) triples; each optimizer sums its gradients over
            the replicas, as always.

    Example:
        >>> finite = all_replicas(all_finite(gradients))
        >>> apply_if(finite, [(optimizer, gradients, variables)])
    """

    def apply_all(*gradients: Sequence[Any]) -> None:
        for (optimizer, _, variables), own in zip(updates, gradients):
            optimizer.apply(own, variables)

    def across_replicas(strategy: Any, flag: Any, *gradients: Any) -> None:
        def apply() -> None:
            strategy.extended.call_for_each_replica(apply_all, args=gradients)

        # Here, not in the replica context: a branch there could not sum over the replicas.
        tf.cond(strategy.experimental_local_results(flag)[0], apply, lambda: None)

    context = tf.distribute.get_replica_context()
    context.merge_call(across_replicas, args=(condition, *(list(g) for _, g, _ in updates)))


def all_finite(tensors: Sequence[Any]) -> tf.Tensor:
    """Whether no value in any of the tensors is NaN or infinite; None counts as finite."""
    flags = [tf.reduce_all(tf.math.is_finite(t)) for t in tensors if t is not None]
    return tf.reduce_all(tf.stack(flags)) if flags else tf.constant(True)


def all_replicas(flag: tf.Tensor) -> tf.Tensor:
    """Whether `flag` holds in every replica, the same answer in all; outside of conditions."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return flag
    missing = tf.cast(~flag, tf.float32)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, missing) == 0


def share_overflows(gradients: list[Any]) -> list[Any]:
    """Gradients as they are; NaN in every replica where one has a value that is not finite.

    Keras' `LossScaleOptimizer` looks at the first replica's gradients alone, before they are
    summed: this tells it of the other replicas' overflows.

    Args:
        gradients: tensors, or None.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return gradients
    factor = tf.where(all_replicas(all_finite(gradients)), 1.0, float("nan"))
    return [None if g is None else g * tf.cast(factor, g.dtype) for g in gradients]


def scales_losses(optimizer: Any) -> bool:
    """Whether the optimizer is wrapped for float16, and leaves out steps by itself."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
