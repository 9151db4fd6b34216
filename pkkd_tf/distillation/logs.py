"""What `PKKD` logs: means of losses and accuracies over all images of an epoch."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation import losses, steps
from pkkd_tf.distillation.attributes import WithAttributes


class LoggedModel(WithAttributes):
    """The part of `PKKD` that adds up what its steps find."""

    def _add_means(self) -> None:
        names = ["loss", "accuracy", "ce_loss"]
        names += [] if self.teacher is None else ["kd_loss", "teacher_loss", "teacher_accuracy"]
        names += ["feature_loss"] if self.pairs else []
        self._means = {name: keras.metrics.Mean(name) for name in names}
        self._skipped = steps.SkippedSteps("skipped_steps")

    @property
    def metrics(self) -> list[Any]:
        """The running means of this epoch, and the number of steps left out if any may be."""
        skipped = [self._skipped] if self.skip_nonfinite else []
        return [*self._means.values(), *skipped]

    @property
    def skipped_in_a_row(self) -> int:
        """How many of the last steps were left out, one after the other; see `skip_nonfinite`."""
        return int(keras.ops.convert_to_numpy(self._skipped.in_a_row))

    def evaluate(self, *args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; means are over all images, whichever replica had them."""
        super().evaluate(*args, return_dict=return_dict, **kwargs)
        logs = {k: float(v) for k, v in of_test(self.get_metrics_result()).items()}
        return logs if return_dict else list(logs.values())

    @steps.scoped("metrics")
    def _record(
        self,
        labels: Any,
        logits: Any,
        theirs: Any,
        parts: Any,
        loss: Any,
        teacher_loss: Any,
        *,
        counts: Any = None,
    ) -> None:
        """Adds one batch, which may be empty, to the means, unless it does not count."""
        weight = 1.0 if counts is None else tf.cast(counts, tf.float32)
        size = tf.cast(tf.shape(labels)[0], tf.float32) * weight
        values = {"loss": loss, "teacher_loss": teacher_loss}
        values.update({f"{name}_loss": part for name, part in parts.items()})
        for name, value in values.items():
            if name in self._means and value is not None:
                value = tf.where(size > 0, value, tf.zeros_like(value))
                self._means[name].update_state(value, sample_weight=size)
        for name, outputs in (("accuracy", logits), ("teacher_accuracy", theirs)):
            if outputs is not None:
                hits = losses.accuracy(labels, outputs)
                self._means[name].update_state(hits, sample_weight=tf.ones_like(hits) * weight)

    def _logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """What a step returns: between several workers Keras takes means over a first axis."""
        strategy = tf.distribute.get_strategy()
        shared = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if shared and strategy.extended._in_multi_worker_mode():
            return {name: tf.convert_to_tensor(value)[None] for name, value in logs.items()}
        return logs


def of_test(logs: dict[str, Any]) -> dict[str, Any]:
    """The logs that a test has too."""
    return {k: v for k, v in logs.items() if k not in ("feature_loss", "skipped_steps")}
