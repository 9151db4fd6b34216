"""One step of student and teacher: forward, backward, update, and what is measured of it."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation import losses, monitor, steps
from pkkd_tf.distillation.logs import LoggedModel, of_test
from pkkd_tf.distillation.matching import adder_layers, filters_of
from pkkd_tf.distillation.recomputation import LOGITS
from pkkd_tf.optimizers import conditional


class TrainedModel(LoggedModel):
    """The part of `PKKD` that trains and tests on one batch."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of both networks on one batch of images and labels."""
        batch = steps.unpack(self._prepared(data))
        before = steps.Statistics(self.non_trainable_weights) if self.skip_nonfinite else None
        gradients: list[Any] = []
        records = []
        for place in range(self.accumulate_steps):
            part, share = steps.part(batch, place, self.accumulate_steps)
            part = part._replace(images=steps.after(gradients, part.images))
            last = place == self.accumulate_steps - 1
            own, record = self._backward(part, share, last)
            gradients = steps.add(gradients, own)
            records.append(record)
        finite = self._update(gradients, records, before)
        for record in records:
            self._record(*record, counts=finite)
        return self._logs({**self.get_metrics_result(), **self.monitor.logs()})

    def test_step(self, data: Any) -> dict[str, Any]:
        """Losses on logits and accuracies of both networks on one batch."""
        batch = steps.unpack(self._prepared(data))
        theirs, teacher_loss = self._teach(batch, training=False)
        outputs = self._study(batch.images, training=False)
        parts = self._parts(batch, outputs, theirs)
        loss = _total(self._weighted(parts)) + _penalties(self.student)
        logits = outputs[LOGITS], None if theirs is None else theirs[LOGITS]
        self._record(batch.labels, *logits, parts, loss, teacher_loss)
        return self._logs(of_test(self.get_metrics_result()))

    @steps.scoped("input")
    def _prepared(self, data: Any) -> Any:
        return data if self.prepare_batch is None else self.prepare_batch(data)

    def _backward(self, batch: steps.Batch, share: Any, measure: bool) -> tuple[Any, Any]:
        """Gradients of one part of a batch for both networks, and what `_record` needs."""
        share = share / tf.distribute.get_strategy().num_replicas_in_sync
        leaks = self.matching.teacher_gradient and bool(self.pairs)
        with tf.GradientTape(persistent=True) as tape:
            images = batch.images
            theirs, teacher_loss = self._teach(batch, training=True)
            if not leaks:  # then the teacher's activations may go before the student's come
                to_teacher = self._teacher_gradients(tape, teacher_loss, share)
                images = steps.after(to_teacher, images)
            outputs = self._study(images, training=True)
            parts = self._parts(batch, outputs, theirs)
            parts["feature"] = self._feature_loss(outputs, theirs)
            weighted = self._weighted(parts)
            student_loss = _total(weighted) + _penalties(self.student)
            scaled = self.optimizer.scale_loss(student_loss * share)
            if leaks:
                teacher_loss += weighted["feature"]
                to_teacher = self._teacher_gradients(tape, teacher_loss, share)
        with tf.name_scope("student_backward"):
            gradients = tape.gradient(scaled, self.student_variables) + to_teacher
        if measure:
            self._measure(tape, weighted, outputs, theirs, tf.size(batch.labels) > 0)
        logits = outputs[LOGITS], None if theirs is None else theirs[LOGITS]
        return gradients, (batch.labels, *logits, parts, student_loss, teacher_loss)

    @steps.scoped("student")
    def _study(self, images: Any, training: bool) -> Any:
        """The student's logits and responses."""
        student, _ = self._extractors()
        return student(images, training=training)

    @steps.scoped("teacher")
    def _teach(self, batch: steps.Batch, training: bool) -> tuple[Any, Any]:
        """The teacher's logits and responses, and its own loss; None without a teacher."""
        _, teacher = self._extractors()
        if teacher is None:
            return None, None
        outputs = teacher(batch.images, training=training and self.teacher_mode == "progressive")
        loss = losses.label_loss(batch.labels, outputs[LOGITS], batch.weights)
        return outputs, loss + _penalties(self.teacher)

    @steps.scoped("teacher_backward")
    def _teacher_gradients(self, tape: Any, loss: Any, share: Any) -> list[Any]:
        """Of what `tape` recorded until now; empty where no teacher is trained."""
        if self.teacher_optimizer is None:
            return []
        scaled = self.teacher_optimizer.scale_loss(loss * share)
        with tape.stop_recording():
            return tape.gradient(scaled, self.teacher_variables)

    @steps.scoped("losses")
    def _parts(self, batch: steps.Batch, outputs: Any, theirs: Any) -> dict[str, Any]:
        """The losses on the student's logits before their weights; None for other parts."""
        parts: dict[str, Any] = dict.fromkeys(monitor.PARTS)
        own, weights = outputs[LOGITS], batch.weights
        parts["ce"] = losses.label_loss(batch.labels, own, weights)
        if theirs is not None:
            target = tf.stop_gradient(theirs[LOGITS])
            parts["kd"] = losses.distillation_loss(own, target, self.temperature, weights)
        return parts

    @steps.scoped("features")
    def _feature_loss(self, outputs: Any, theirs: Any) -> Any:
        """The sum over all matched pairs, before its weight; None without any."""
        matched = zip(self.matched_layers, self.pairs)
        each = [pair.loss(outputs[name], theirs[name]) for name, pair in matched]
        return tf.add_n(each) if each else None

    @steps.scoped("losses")
    def _weighted(self, parts: dict[str, Any]) -> dict[str, Any]:
        weights = {"ce": 1.0, "kd": self.alpha, "feature": self.monitor.beta}
        return {k: None if part is None else weights[k] * part for k, part in parts.items()}

    @steps.scoped("monitor")
    def _measure(
        self, tape: Any, weighted: dict[str, Any], outputs: Any, theirs: Any, some: Any
    ) -> None:
        filters = [filters_of(layer).value for layer in adder_layers(self.student).values()]
        scale = self.optimizer.scale_loss(tf.constant(1.0))

        def pairs() -> dict[str, tf.Tensor]:
            matched = zip(self.matched_layers, self.pairs)
            return {n: monitor.pair_statistics(p, outputs[n], theirs[n]) for n, p in matched}

        self.monitor.update(
            self.optimizer.iterations,
            filters,
            lambda: monitor.gradient_norms(
                tape, list(weighted.values()), filters, scale, self.monitor.unconditional
            ),
            pairs,
            some,
        )

    @steps.scoped("update")
    def _update(self, gradients: list[Any], records: list[Any], before: Any) -> Any:
        """Applies both networks' gradients; returns whether it did, None for always."""
        own = len(self.student_variables)
        updates = [(self.optimizer, gradients[:own], self.student_variables)]
        if self.teacher_optimizer is not None:
            updates.append((self.teacher_optimizer, gradients[own:], self.teacher_variables))
        updates = [update for update in updates if update[2]]  # one may be frozen as a whole
        scaled = conditional.scales_losses(self.optimizer)
        if scaled:
            updates = [(o, conditional.share_overflows(g), v) for o, g, v in updates]
        if before is None:
            for optimizer, own_gradients, variables in updates:
                optimizer.apply_gradients(zip(own_gradients, variables))
            return None
        losses_ = [_unless_empty(record[0], loss) for record in records for loss in record[-2:]]
        tensors = losses_ if scaled else losses_ + gradients
        finite = conditional.all_replicas(conditional.all_finite(tensors))
        conditional.apply_if(finite, updates)
        before.restore_unless(finite)
        self._skipped.update_state(tf.where(finite, 0.0, 1.0))
        return finite


def _unless_empty(labels: tf.Tensor, loss: Any) -> Any:
    """A part's loss; 0 where a replica has no images of a batch, of which there is no mean."""
    return None if loss is None else tf.where(tf.size(labels) > 0, loss, 0.0)


def _penalties(model: keras.Model) -> tf.Tensor:
    """Sum of what the regularizers of `model` ask for, float32."""
    return tf.add_n([0.0, *(tf.cast(loss, tf.float32) for loss in model.losses)])


def _total(weighted: dict[str, Any]) -> tf.Tensor:
    return tf.add_n([part for part in weighted.values() if part is not None])
