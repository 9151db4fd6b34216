"""Teacher and student in one Keras model, trained together."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation import losses, monitor, steps
from pkkd_tf.distillation.arguments import (
    EXECUTION_OPTIONS,
    STEP_OPTIONS,
    check_arguments,
    check_compile_arguments,
    check_optimizers,
    sums_over_replicas,
)
from pkkd_tf.distillation.distance import distance_of
from pkkd_tf.distillation.features import FeatureLoss, FeatureMatching
from pkkd_tf.distillation.matching import (
    adder_layers,
    check_functional,
    check_pair,
    fan_in_of,
    filters_of,
    match_layers,
    pass_through,
)
from pkkd_tf.distillation.recomputation import RecomputedNetwork, output_of
from pkkd_tf.layers.common import PACKAGE
from pkkd_tf.optimizers import conditional


@keras.saving.register_keras_serializable(package=PACKAGE)
class PKKD(keras.Model):
    """Progressive kernel based distillation: a convolutional teacher and an adder student.

        student:  L = CE(student, labels) + alpha * KD(student, teacher) + beta * L_features
        teacher:  CE(teacher, labels)

    Source: Xu et al., "Kernel Based Progressive Distillation for Adder Neural Networks", NeurIPS
    2020, arXiv 2009.13044. This is a reconstruction of PKKD: the paper's method section was not
    at hand, so its open choices are arguments (here and in `FeatureMatching`).

    Both networks learn in the same step, each with its own optimizer; the teacher starts from
    scratch with the student ("progressive") or is given trained and held ("fixed"). No gradient
    reaches the teacher unless `FeatureMatching.teacher_gradient`. What is deployed is
    `model.student`, the plain network; kernels and alignment stay behind.

    `compile`, `fit`, `evaluate`, callbacks (`mode="max"` where they monitor an accuracy),
    `.keras` saving and loading (both optimizers' state included) and `tf.distribute` strategies
    work as for every Keras model; the statistics of the
    batch that features are normalised with are each replica's own. Inputs are images and
    labels: class numbers (N,) or probabilities (N, classes). Logs: `loss`, `accuracy`,
    `ce_loss`; with a teacher `kd_loss`, `teacher_loss`, `teacher_accuracy`; with features
    `feature_loss`, `beta`, `feature_share`, `effective_rank`, `exponent`; `filter_rms`. The parts
    are logged before their weights: `loss = ce_loss + alpha * kd_loss + beta * feature_loss` plus
    the regularizers of the student; in evaluation there is no feature loss.

    Args:
        student: functional (or built Sequential) Keras model to logits, its adder layers marked
            (`pkkd_tf.layers`).
        teacher: such a model of the same input and output shapes, or None (`plain`).
        method: `"pkkd"`, `"kd"` (logits only) or `"plain"` (labels only).
        alpha: float >= 0, weight of the logit distillation.
        temperature: float > 0 of the softmax in the logit distillation.
        beta: float >= 0, fixed weight of the feature loss; None: found by `feature_share`.
        feature_share: float in (0, 1), the share that the feature loss shall have in the adder
            layers' gradients (the adaptive learning rate hides sizes, so shares are what counts);
            beta follows it every `monitor_every` steps. Ignored where beta is given.
        matched_layers: names of the layers to compare; None: every adder layer with a twin.
        matching: `FeatureMatching`, how they are compared.
        teacher_mode: `"progressive"` or `"fixed"`.
        monitor_every: int, steps between measurements of shares and features (each costs up to
            three more backward passes); 0 never, which needs beta. Under a strategy, networks with
            synchronised batch normalization can be measured at every step or never; shares are
            then those of the gradient over all replicas, else means of the replicas' own.
        name, dtype: as in `keras.Model`. Student and teacher keep their own types; under
            `"mixed_float16"` `compile` scales the losses.

    Raises:
        ValueError: an argument out of its range, shapes of student and teacher that differ, a
            matched layer that is missing or differs in shape.

    Example:
        >>> student = pkkd_tf.models.build("resnet20", "adder")
        >>> teacher = pkkd_tf.models.build("resnet20", "convolution")
        >>> model = PKKD(student, teacher)
        >>> model.compile(pkkd_tf.optimizers.AdderSGD(0.1, weight_decay=5e-4))
        >>> model.fit(images, labels, batch_size=256)
        >>> model.student.save("student.keras")
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        method: str = "pkkd",
        alpha: float = 1.0,
        temperature: float = 1.0,
        beta: float | None = None,
        feature_share: float = 0.1,
        matched_layers: Sequence[str] | None = None,
        matching: FeatureMatching | None = None,
        teacher_mode: str = "progressive",
        monitor_every: int = 50,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.student, self.teacher = student, teacher
        self.method, self.teacher_mode = method, teacher_mode
        self.alpha, self.temperature = alpha, temperature
        self.beta, self.feature_share = beta, feature_share
        self.monitor_every = monitor_every
        self.skip_nonfinite = False
        self.prepare_batch: Callable[[Any], Any] | None = None
        self.matching = matching or FeatureMatching()
        check_arguments(self)
        self.matched_layers: list[str] = []
        self.pairs: list[FeatureLoss] = []
        check_functional(student, "student")
        if teacher is not None:
            check_functional(teacher, "teacher")
            check_pair(student, teacher)
        if method == "pkkd":
            self._match(matched_layers)
        self._extractors: Any = None
        self._use_extractors(_extractor)
        adders = [layer.name for layer in adder_layers(student)]
        self.monitor = monitor.LayerMonitor(
            adders, self.matched_layers, monitor_every, beta, feature_share
        )
        self._add_means()
        self.built = True

    def _match(self, names: Sequence[str] | None) -> None:
        self.matched_layers = match_layers(self.student, self.teacher, names)
        for name in self.matched_layers:
            layer = self.student.get_layer(name)
            channels = layer.output.shape[1 if layer.data_format == "channels_first" else -1]
            arguments = self.matching, channels, fan_in_of(layer), f"features_{name}"
            self.pairs.append(FeatureLoss(*arguments, data_format=layer.data_format))

    def _use_extractors(self, make: Any) -> None:
        theirs = distance_of if self.matching.kernel == "rbf" else output_of
        networks = (self.student, output_of), (self.teacher, theirs)
        extractors = [n and make(n, self.matched_layers, response) for n, response in networks]
        self._extractors = lambda: extractors  # behind a function, so that Keras tracks no twin

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

    @property
    def student_variables(self) -> list[Any]:
        """What the student's optimizer trains: the student, its kernels and alignments."""
        return self.student.trainable_variables + [
            v for pair in self.pairs for v in pair.trainable_variables
        ]

    @property
    def teacher_variables(self) -> list[Any]:
        """What the teacher's optimizer trains; empty without one or with a fixed teacher."""
        if self.teacher is None or self.teacher_mode == "fixed":
            return []
        return self.teacher.trainable_variables

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the student's logits."""
        return self.student(inputs, training=training)

    def compile(  # noqa: A003
        self,
        optimizer: Any = None,
        teacher_optimizer: Any = None,
        accumulate_steps: int = 1,
        skip_nonfinite: bool = False,
        recompute: bool = False,
        prepare_batch: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizers and builds both, so that checkpoints restore both.

        Args:
            optimizer: the student's; `pkkd_tf.optimizers.AdderSGD` is meant.
            teacher_optimizer: the teacher's; None: a copy of the student's. Callbacks that set a
                learning rate reach the student's alone: give both a schedule instead.
            accumulate_steps: int, parts that every batch is worked off in, one after the other,
                before one update by the mean of their gradients: the memory of a part, and the
                whole batch's update but for statistics over the batch, which are each part's own.
                What `monitor_every` measures is measured on the last part.
            skip_nonfinite: bool, whether a step whose losses or gradients are not finite in any
                replica is left out: nothing of it is kept in any replica, and the log
                `skipped_steps` counts it. Under float16 a gradient that overflows is the loss
                scale's affair, as in Keras; only losses count then.
            recompute: bool, whether residual blocks' activations are computed again in the
                backward pass instead of kept (`RecomputedNetwork`): less memory, more time.
            prepare_batch: maps what `fit` and `evaluate` are given a step to (images, labels),
                inside of the compiled step (`pkkd_tf.data`'s `on_device`); None: it is given as
                it is. It is not saved with the model.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, `auto_scale_loss` of
                `keras.Model.compile`. `jit_compile` is False unless given: under XLA, which Keras
                turns on by itself where there is a GPU, the compiled operations do not serve.

        Raises:
            ValueError: no optimizer, an argument of `keras.Model.compile` that asks for
                another loss or metric, or one of the above that cannot be.
        """
        check_compile_arguments(optimizer, accumulate_steps, kwargs)
        check_optimizers(self, optimizer, teacher_optimizer)
        self.monitor.unconditional = sums_over_replicas(self)
        self.accumulate_steps, self.skip_nonfinite = accumulate_steps, skip_nonfinite
        self.recompute, self.prepare_batch = recompute, prepare_batch
        self._use_extractors(RecomputedNetwork if recompute else _extractor)
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})
        self.optimizer.build(self.student_variables)
        self.teacher_optimizer = None
        if self.teacher_variables:
            teacher_optimizer = keras.optimizers.get(teacher_optimizer or _copy(self.optimizer))
            scaled = keras.optimizers.LossScaleOptimizer
            if isinstance(self.optimizer, scaled) and not isinstance(teacher_optimizer, scaled):
                teacher_optimizer = scaled(teacher_optimizer)
            self.teacher_optimizer = teacher_optimizer
            teacher_optimizer.build(self.teacher_variables)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of both networks on one batch of images and labels."""
        images, labels = _unpack(self._prepared(data))
        before = steps.Statistics(self.non_trainable_weights) if self.skip_nonfinite else None
        gradients: list[Any] = []
        records = []
        for place in range(self.accumulate_steps):
            part, own_labels, share = steps.part(images, labels, place, self.accumulate_steps)
            last = place == self.accumulate_steps - 1
            own, record = self._backward(steps.after(gradients, part), own_labels, share, last)
            gradients = steps.add(gradients, own)
            records.append(record)
        finite = self._update(gradients, records, before)
        for record in records:
            self._record(*record, counts=finite)
        return self._logs({**self.get_metrics_result(), **self.monitor.logs()})

    @steps.scoped("input")
    def _prepared(self, data: Any) -> Any:
        return data if self.prepare_batch is None else self.prepare_batch(data)

    def _backward(self, images: Any, labels: Any, share: Any, measure: bool) -> tuple[Any, Any]:
        """Gradients of one part of a batch for both networks, and what `_record` needs."""
        share = share / tf.distribute.get_strategy().num_replicas_in_sync
        leaks = self.matching.teacher_gradient and bool(self.pairs)
        with tf.GradientTape(persistent=True) as tape:
            theirs, teacher_loss = self._teach(images, labels, training=True)
            if not leaks:  # then the teacher's activations may go before the student's come
                to_teacher = self._teacher_gradients(tape, teacher_loss, share)
                images = steps.after(to_teacher, images)
            outputs = self._study(images, training=True)
            parts = self._parts(labels, outputs, theirs)
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
            self._measure(tape, weighted, outputs, theirs)
        logits = outputs["logits"], None if theirs is None else theirs["logits"]
        return gradients, (labels, *logits, parts, student_loss, teacher_loss)

    @steps.scoped("student")
    def _study(self, images: Any, training: bool) -> Any:
        """The student's logits and responses."""
        student, _ = self._extractors()
        return student(images, training=training)

    @steps.scoped("teacher")
    def _teach(self, images: Any, labels: Any, training: bool) -> tuple[Any, Any]:
        """The teacher's logits and responses, and its own loss; None without a teacher."""
        _, teacher = self._extractors()
        if teacher is None:
            return None, None
        outputs = teacher(images, training=training and self.teacher_mode == "progressive")
        return outputs, losses.label_loss(labels, outputs["logits"]) + _penalties(self.teacher)

    @steps.scoped("teacher_backward")
    def _teacher_gradients(self, tape: Any, loss: Any, share: Any) -> list[Any]:
        """Of what `tape` recorded until now; empty where no teacher is trained."""
        if self.teacher_optimizer is None:
            return []
        scaled = self.teacher_optimizer.scale_loss(loss * share)
        with tape.stop_recording():
            return tape.gradient(scaled, self.teacher_variables)

    @steps.scoped("update")
    def _update(self, gradients: list[Any], records: list[Any], before: Any) -> Any:
        """Applies both networks' gradients; returns whether it did, None for always."""
        own = len(self.student_variables)
        updates = [(self.optimizer, gradients[:own], self.student_variables)]
        if self.teacher_optimizer is not None:
            updates.append((self.teacher_optimizer, gradients[own:], self.teacher_variables))
        scaled = conditional.scales_losses(self.optimizer)
        if scaled:
            updates = [(o, conditional.share_overflows(g), v) for o, g, v in updates]
        if before is None:
            for optimizer, own_gradients, variables in updates:
                optimizer.apply_gradients(zip(own_gradients, variables))
            return None
        losses_ = [loss for record in records for loss in record[-2:]]
        tensors = losses_ if scaled else losses_ + gradients
        finite = conditional.all_replicas(conditional.all_finite(tensors))
        conditional.apply_if(finite, updates)
        before.restore_unless(finite)
        self._skipped.update_state(tf.where(finite, 0.0, 1.0))
        return finite

    def test_step(self, data: Any) -> dict[str, Any]:
        """Losses on logits and accuracies of both networks on one batch."""
        images, labels = _unpack(self._prepared(data))
        theirs, teacher_loss = self._teach(images, labels, training=False)
        outputs = self._study(images, training=False)
        parts = self._parts(labels, outputs, theirs)
        loss = _total(self._weighted(parts)) + _penalties(self.student)
        logits = outputs["logits"], None if theirs is None else theirs["logits"]
        self._record(labels, *logits, parts, loss, teacher_loss)
        return self._logs(_of_test(self.get_metrics_result()))

    def evaluate(self, *args: Any, return_dict: bool = False, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; means are over all images, whichever replica had them."""
        super().evaluate(*args, return_dict=return_dict, **kwargs)
        logs = {k: float(v) for k, v in _of_test(self.get_metrics_result()).items()}
        return logs if return_dict else list(logs.values())

    def _logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """What a step returns: between several workers Keras takes means over a first axis."""
        strategy = tf.distribute.get_strategy()
        shared = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if shared and strategy.extended._in_multi_worker_mode():
            return {name: tf.convert_to_tensor(value)[None] for name, value in logs.items()}
        return logs

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to build after `compile`; Keras' attempt fails between several workers."""

    def layer_statistics(self) -> dict[str, dict[str, float]]:
        """What was last measured, layer by layer.

        Returns:
            Of every adder layer of the student: `share_ce`, `share_kd`, `share_feature` (of the
            gradient in its filters, summing to 1), `filter_rms`, and, where it is matched,
            `similarity` to the teacher in [-1, 1], `exponent` (RMS, before clipping) and
            `effective_rank` of its features (0 where it is not).
        """
        return self.monitor.statistics()

    @steps.scoped("losses")
    def _parts(self, labels: Any, outputs: Any, theirs: Any) -> dict[str, Any]:
        """The losses on the student's logits before their weights; None for other parts."""
        parts: dict[str, Any] = dict.fromkeys(monitor.PARTS)
        parts["ce"] = losses.label_loss(labels, outputs["logits"])
        if theirs is not None:
            target = tf.stop_gradient(theirs["logits"])
            parts["kd"] = losses.distillation_loss(outputs["logits"], target, self.temperature)
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
    def _measure(self, tape: Any, weighted: dict[str, Any], outputs: Any, theirs: Any) -> None:
        filters = [filters_of(layer).value for layer in adder_layers(self.student)]
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
        )

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
        size = tf.shape(labels)[0]
        size = size if counts is None else size * tf.cast(counts, size.dtype)
        values = {"loss": loss, "teacher_loss": teacher_loss}
        values.update({f"{name}_loss": part for name, part in parts.items()})
        for name, value in values.items():
            if name in self._means and value is not None:
                value = tf.where(size > 0, value, tf.zeros_like(value))
                self._means[name].update_state(value, sample_weight=size)
        for name, outputs in (("accuracy", logits), ("teacher_accuracy", theirs)):
            if outputs is not None:
                hits = losses.accuracy(labels, outputs)[:size]
                self._means[name].update_state(hits)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Exports the student for inference; arguments as in `keras.Model.export`.

        Example:
            >>> with pkkd_tf.ops.use_path("reference"):    # loads without this package then
            ...     model.export("served")
        """
        self.student.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, student and teacher serialised with them."""
        config: dict[str, Any] = {"name": self.name, "matching": vars(self.matching).copy()}
        config["dtype"] = keras.dtype_policies.serialize(self.dtype_policy)
        for name in ("method", "alpha", "temperature", "beta", "feature_share", "teacher_mode"):
            config[name] = getattr(self, name)
        config["monitor_every"] = self.monitor_every
        config["matched_layers"] = self.matched_layers or None
        for name in ("student", "teacher"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PKKD":
        """Rebuilds the model from `get_config`."""
        config = dict(config)
        for name in ("student", "teacher"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        config["matching"] = FeatureMatching(**config["matching"])
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns both optimizers and how steps are executed, serialised; None if not compiled."""
        if not self.compiled:
            return None
        optimizers = {"optimizer": self.optimizer, "teacher_optimizer": self.teacher_optimizer}
        config = {k: keras.saving.serialize_keras_object(v) for k, v in optimizers.items()}
        execution = super().get_compile_config()
        config |= {name: getattr(self, name) for name in STEP_OPTIONS}
        return {**config, **{name: execution[name] for name in EXECUTION_OPTIONS}}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with both optimizers, so that loading brings back their state."""
        config = {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}
        self.compile(**config, auto_scale_loss=False)  # optimizers come back as they were wrapped


def _extractor(model: keras.Model, names: list[str], response: Any) -> keras.Model:
    """A model to the logits and the named layers' responses, sharing the network's layers."""
    images, calls, logits = pass_through(model)
    return keras.Model(images, {"logits": logits, **{n: response(*calls[n]) for n in names}})


def _of_test(logs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in logs.items() if k not in ("feature_loss", "skipped_steps")}


def _penalties(model: keras.Model) -> tf.Tensor:
    """Sum of what the regularizers of `model` ask for, float32."""
    return tf.add_n([0.0, *(tf.cast(loss, tf.float32) for loss in model.losses)])


def _total(weighted: dict[str, Any]) -> tf.Tensor:
    return tf.add_n([part for part in weighted.values() if part is not None])


def _copy(optimizer: Any) -> Any:
    return type(optimizer).from_config(optimizer.get_config())


def _unpack(data: Any) -> tuple[Any, Any]:
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or weights is not None:
        raise ValueError(
            "PKKD trains on (images, labels) without sample weights. Received: "
            f"labels={labels}, sample_weight={weights}"
        )
    return images, labels
