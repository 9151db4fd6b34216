"""Teacher and student in one Keras model, trained together."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from pkkd_tf.data.repetition import warn_of_repetition
from pkkd_tf.distillation import monitor
from pkkd_tf.distillation.arguments import (
    FEATURE_SHARE,
    check_arguments,
    check_compile_arguments,
    check_effect,
    check_optimizers,
    check_shared,
)
from pkkd_tf.distillation.extractors import extractors
from pkkd_tf.distillation.feature_matching import FeatureMatching
from pkkd_tf.distillation.features import FeatureLoss
from pkkd_tf.distillation.matching import (
    adder_layers,
    check_functional,
    check_pair,
    fan_in_of,
    match_layers,
)
from pkkd_tf.distillation.replicas import check_scope, sums_over_replicas
from pkkd_tf.distillation.running_averages import warn_of_slow_averages
from pkkd_tf.distillation.saving import StoredModel
from pkkd_tf.distillation.teachers_optimizer import teachers
from pkkd_tf.distillation.training_step import TrainedModel
from pkkd_tf.distillation.warned_fit import warned
from pkkd_tf.layers.common import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class PKKD(TrainedModel, StoredModel):
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
    labels: class numbers (N,) or (N, 1), or probabilities (N, classes). `class_weight` and
    `sample_weight` weigh each image's terms of the losses on logits, as Keras weighs a loss;
    accuracies and the feature loss know none. Logs: `loss`, `accuracy`,
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
            matched layer that is missing or differs in shape, a network that ends in a softmax,
            an argument that `method` makes no use of.

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
        feature_share: float = FEATURE_SHARE,
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
        self.prepare_batch = None
        self.matching = matching or FeatureMatching()
        check_arguments(self)
        check_effect(self, matched_layers)
        self.matched_layers, self.pairs = [], []
        check_functional(student, "student")
        if teacher is not None:
            check_functional(teacher, "teacher")
            check_pair(student, teacher)
        if method == "pkkd":
            self._match(matched_layers)
        self._extractors = None  # made by `compile`
        self.monitor = monitor.LayerMonitor(
            list(adder_layers(student)), self.matched_layers, monitor_every, beta, feature_share
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
                replica is left out: nothing of it is kept in any replica (but Dropout has drawn
                its numbers), and the log `skipped_steps` counts it. Under float16 a gradient that
                overflows is the loss scale's affair, as in Keras; only losses count then.
            recompute: bool, whether residual blocks' activations are computed again in the
                backward pass instead of kept (`RecomputedNetwork`): less memory, more time.
            prepare_batch: maps what `fit` and `evaluate` are given a step to (images, labels),
                inside of the compiled step (`pkkd_tf.data`'s `on_device`); None: it is given as
                it is. It is not saved with the model.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, `auto_scale_loss` of
                `keras.Model.compile`. `jit_compile` is False unless given: under XLA, which Keras
                turns on by itself where there is a GPU, the compiled operations do not serve.
                Where they cannot be built, True has XLA fuse the stock ones, which is faster.

        Raises:
            ValueError: no optimizer, an argument of `keras.Model.compile` that asks for
                another loss or metric, or one of the above that cannot be.
        """
        accumulate_steps = check_compile_arguments(optimizer, accumulate_steps, kwargs)
        optimizer = keras.optimizers.get(optimizer)
        if teacher_optimizer is not None:
            teacher_optimizer = keras.optimizers.get(teacher_optimizer)
        check_optimizers(self, optimizer, teacher_optimizer)
        check_shared(self)
        check_scope(self, (optimizer, teacher_optimizer))
        self.monitor.unconditional = sums_over_replicas(self)
        self.accumulate_steps, self.skip_nonfinite = accumulate_steps, skip_nonfinite
        self.recompute, self.prepare_batch = recompute, prepare_batch
        made = extractors(
            self.student, self.teacher, self.matched_layers, self.matching.kernel, recompute
        )
        self._extractors = lambda: made  # behind a function, so that Keras tracks no twin
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})
        self.optimizer.build(self.student_variables)
        self.teacher_optimizer = None
        if self.teacher_variables:
            self.teacher_optimizer = teachers(teacher_optimizer, self.optimizer)
            self.teacher_optimizer.build(self.teacher_variables)

    fit = warned(TrainedModel.fit, warn_of_repetition, warn_of_slow_averages)

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
