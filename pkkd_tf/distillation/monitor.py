"""What the adaptive learning rate hides: each loss part's share in every adder layer's gradient."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation.features import FeatureLoss
from pkkd_tf.distillation.similarity import effective_rank, similarity

PARTS = ("ce", "kd", "feature")
SHARES = tuple(f"share_{part}" for part in PARTS)
FEATURES = ("similarity", "exponent", "effective_rank")
STATISTICS = (*SHARES, "filter_rms", *FEATURES)


class LayerMonitor(keras.layers.Layer):
    """Measures every adder layer every so many steps, and holds the feature loss's weight.

    Args:
        layers: names of the adder layers.
        matched: those of them that the feature loss compares.
        every: int, steps between measurements; 0 never.
        beta: float, the feature loss's weight, or None to follow `share`.
        share: float in (0, 1), see `beta_for_share`.
        name: string.
    """

    START = 0.01

    def __init__(
        self,
        layers: list[str],
        matched: list[str],
        every: int,
        beta: float | None,
        share: float,
        name: str = "monitor",
    ):
        super().__init__(name=name, dtype="float32")
        self.rows, self.matched = layers, matched
        self.every, self.share = every if layers else 0, share
        self.unconditional = False  # replicas can sum tensors while measuring outside conditions
        self.follows_share = beta is None and bool(matched)
        self.beta = self._state("beta", (), self.START if beta is None else beta)
        self.table = self._state("table", (len(layers), len(STATISTICS)), 0.0)
        self.built = True

    def _state(self, name: str, shape: Any, value: float) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            aggregation="only_first_replica",
        )

    def update(
        self,
        step: Any,
        filters: list[Any],
        norms: Callable[[], tf.Tensor],
        features: Callable[[], dict[str, tf.Tensor]],
        some: Any = True,
    ) -> None:
        """Measures if `step` is due. Call in the replica context, outside of conditions.

        Where a gradient is not finite, as where float16 overflows, the last values stay; so do
        those of a replica without images.

        Args:
            step: integer tensor.
            filters: the layers' variables.
            norms: returns `gradient_norms` of the weighted loss parts.
            features: returns `pair_statistics` by layer name.
            some: whether there are images to measure on.
        """
        if not self.every:
            return
        kept = tf.convert_to_tensor(self.table), tf.convert_to_tensor(self.beta)

        def measure() -> tuple[tf.Tensor, tf.Tensor]:
            measured, pairs = norms(), features()
            matched = tf.stack([pairs.get(name, tf.zeros([len(FEATURES)])) for name in self.rows])
            table = tf.concat([shares(measured), filter_rms(filters)[:, None], matched], axis=1)
            follow = self.follows_share
            beta = beta_for_share(kept[1], measured, self.share) if follow else kept[1]
            finite = tf.reduce_all(tf.math.is_finite(measured))  # else float16 skips this step
            valid = tf.logical_and(finite, some)
            return tf.where(valid, table, kept[0]), tf.where(valid, beta, kept[1])

        due = step % self.every == 0
        values = measure() if self.unconditional else tf.cond(due, measure, lambda: kept)
        values = _mean_over_replicas(list(values))
        self.table.assign(values[0])
        self.beta.assign(values[1])

    def logs(self) -> dict[str, Any]:
        """Means over the layers of what was last measured."""
        if not self.every:
            return {}
        columns = dict(zip(STATISTICS, tf.unstack(tf.convert_to_tensor(self.table), axis=1)))
        logs = {"filter_rms": tf.reduce_mean(columns["filter_rms"])}
        if self.matched:
            logs["beta"] = tf.convert_to_tensor(self.beta)
            logs["feature_share"] = tf.reduce_mean(columns["share_feature"])
            logs.update({n: tf.reduce_sum(columns[n]) / len(self.matched) for n in FEATURES})
        return logs

    def statistics(self) -> dict[str, dict[str, float]]:
        """What was last measured, by layer name."""
        rows = keras.ops.convert_to_numpy(self.table)
        return {n: dict(zip(STATISTICS, map(float, row))) for n, row in zip(self.rows, rows)}


def gradient_norms(
    tape: Any, losses: list[Any], filters: list[Any], scale: Any, over_replicas: bool = False
) -> tf.Tensor:
    """L2 norms (layers, losses) of each loss's gradient in each layer's filters.

    Args:
        tape: persistent `tf.GradientTape` that recorded the losses.
        losses: scalars, or None for a part that is not trained on.
        filters: variables, one a layer.
        scale: scalar float32 that the losses are multiplied by (float16's loss scale).
        over_replicas: whether gradients are the mean over all replicas, else this one's own. Under
            synchronised batch normalization only the former means anything.

    Returns:
        Tensor float32 (len(filters), len(losses)); zeros for None.
    """
    columns = []
    for loss in losses:
        if loss is None:
            columns.append(tf.zeros([len(filters)]))
            continue
        gradients = tape.gradient(loss, filters, scale, unconnected_gradients="zero")
        gradients = _mean_over_replicas(gradients) if over_replicas else gradients
        columns.append(tf.stack([tf.norm(tf.cast(g, tf.float32)) for g in gradients]))
    return tf.stack(columns, axis=1)


def _mean_over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def shares(norms: tf.Tensor) -> tf.Tensor:
    """Each part's share of the layer's summed norms; rows sum to 1 (or 0 without a gradient)."""
    return norms / tf.maximum(tf.reduce_sum(norms, axis=1, keepdims=True), 1e-30)


def filter_rms(filters: list[Any]) -> tf.Tensor:
    """Root mean square of each layer's filters, float32 (layers,); 1 at the start."""
    return tf.stack([tf.sqrt(tf.reduce_mean(tf.cast(f, tf.float32) ** 2)) for f in filters])


def pair_statistics(pair: FeatureLoss, student: Any, teacher: Any) -> tf.Tensor:
    """Similarity to the teacher, RMS kernel exponent and effective rank of one matched layer.

    Args:
        pair: the layer's `FeatureLoss`.
        student: the student's raw response.
        teacher: the teacher's.

    Returns:
        Tensor float32 (3,): correlation in [-1, 1]; RMS of the exponent before clipping, 0 for
        linear features; number of channels' worth of variation, 1 .. channels.
    """
    rms, features = tf.zeros([]), pair(student, teacher)
    if pair.matching.kernel != "identity":
        exponent = pair.student_kernel.exponent(pair.seen_by_kernel(student))
        rms = tf.sqrt(tf.reduce_mean(tf.square(exponent)))
    return tf.stack([similarity(*features), rms, effective_rank(features[0])])


def beta_for_share(beta: tf.Tensor, norms: tf.Tensor, share: float) -> tf.Tensor:
    """The beta at which the feature loss makes up `share` of the gradient, as a layer's mean.

    Args:
        beta: scalar, the weight that `norms` were measured at.
        norms: (layers, 3), norms of the weighted parts ce, kd, feature.
        share: float in (0, 1).

    Returns:
        Scalar float32: `beta * share / (1 - share) * geometric mean of others / features` over
        the layers that the feature loss reaches, at most 10 times up or down from `beta`.
    """
    others, features = norms[:, 0] + norms[:, 1], norms[:, 2]
    reached = tf.cast((features > 0) & (others > 0), tf.float32)
    logs = tf.math.log(tf.maximum(others, 1e-30)) - tf.math.log(tf.maximum(features, 1e-30))
    mean = tf.reduce_sum(reached * logs) / tf.maximum(tf.reduce_sum(reached), 1.0)
    factor = tf.where(tf.reduce_any(reached > 0), share / (1 - share) * tf.exp(mean), 1.0)
    return beta * tf.clip_by_value(factor, 0.1, 10.0)
