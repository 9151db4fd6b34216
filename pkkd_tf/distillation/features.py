"""The feature loss of one pair of layers: kernels, alignment, squared difference."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.distillation.feature_matching import FeatureMatching
from pkkd_tf.distillation.similarity import SimilarityKernel, normalise


class FeatureLoss(keras.layers.Layer):
    """The feature loss of one matched pair of layers, as `FeatureMatching` states it.

    Args:
        matching: `FeatureMatching`.
        channels: int, channels of both responses.
        fan_in: int, terms an adder response sums up; where `2 sigma^2` of the student starts for
            raw responses; half of it is where the teacher's starts for raw distances, since inputs
            after batch normalization and ReLU have a mean square of 1/2. It starts at 2 for
            everything of unit size: normalised responses, and the raw ones of a convolution.
        name: string.
        data_format: `"channels_last"` or `"channels_first"`, of both responses.

    Input shape:
        Two responses (N, H, W, channels), or (N, channels, H, W): the student's, the teacher's;
        for kernel="rbf" the teacher's are its negative squared distances.

    Output shape:
        The features of both sides, float32 (N, H, W, channels).

    Example:
        >>> responses = keras.random.normal((2, 4, 8, 8, 16))    # the student's, the teacher's
        >>> pair = FeatureLoss(FeatureMatching(), channels=16, fan_in=144, name="pair")
        >>> ours, theirs = pair(*responses)
        >>> pair.loss(*responses)    # mean((ours - theirs)^2)
    """

    def __init__(
        self,
        matching: FeatureMatching,
        channels: int,
        fan_in: int,
        name: str,
        data_format: str = "channels_last",
    ):
        super().__init__(name=name, dtype="float32")
        self.matching, self.data_format = matching, data_format
        width = float(fan_in) if matching.response == "raw" else 2.0
        has_kernel = matching.kernel != "identity"
        trained = matching.teacher_side == "trained"
        self.student_kernel = SimilarityKernel(
            1,
            width,
            matching.bound,
            trainable=has_kernel,
            dtype="float32",
            name="student_kernel",
        )
        self.teacher_kernel = SimilarityKernel(
            matching.teacher_sign,
            fan_in / 2 if matching.kernel == "rbf" and matching.response == "raw" else 2.0,
            matching.bound,
            trainable=has_kernel and trained,
            dtype="float32",
            name="teacher_kernel",
        )
        self.student_alignment = _alignment(matching.student_alignment, channels, "student_align")
        self.teacher_alignment = _alignment(trained, channels, "teacher_align")
        self.built = True

    def call(self, student: Any, teacher: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the normalised features `(student's, teacher's)`."""
        if not self.matching.teacher_gradient:
            teacher = tf.stop_gradient(teacher)
        return (
            self._side(student, self.student_kernel, self.student_alignment),
            self._side(teacher, self.teacher_kernel, self.teacher_alignment),
        )

    def loss(self, student: Any, teacher: Any) -> tf.Tensor:
        """`mean((student features - teacher features)^2)`, a scalar float32 in [0, 4].

        Its gradients are taken along with it, which a scalar allows: what is kept for the
        backward pass is one tensor of a response's shape, not every step of both features.
        """

        @tf.custom_gradient
        def difference(student: tf.Tensor, teacher: tf.Tensor) -> tuple[tf.Tensor, Any]:
            loss, to_responses, to_weights = self._with_gradients(student, teacher)

            def backward(upstream: tf.Tensor, variables: Any = ()) -> tuple[Any, Any]:
                wanted = [to_weights.get(variable.ref()) for variable in variables]
                return _times(to_responses, upstream), _times(wanted, upstream)

            return loss, backward

        return difference(tf.convert_to_tensor(student), tf.convert_to_tensor(teacher))

    def _with_gradients(self, *responses: tf.Tensor) -> tuple[tf.Tensor, list[Any], dict[Any, Any]]:
        """The loss, its gradients in both responses, and those in the weights by reference."""
        weights = [variable.value for variable in self.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(responses)
            ours, theirs = self(*responses)
            loss = tf.nn.l2_loss(ours - theirs) * (2 / tf.cast(tf.size(ours), tf.float32))
        student, teacher, *own = tape.gradient(loss, [*responses, *weights])
        return loss, [student, teacher], {w.ref(): g for w, g in zip(weights, own)}

    def seen_by_kernel(self, response: Any) -> tf.Tensor:
        """`u` of the formula, channels last: the response, batch-normalised or raw."""
        response = self._channels_last(response)
        return response if self.matching.response == "raw" else normalise(response)

    def _channels_last(self, response: Any) -> tf.Tensor:
        response = tf.cast(response, tf.float32)
        first = self.data_format == "channels_first"
        return tf.transpose(response, [0, 2, 3, 1]) if first else response

    def _side(self, response: Any, kernel: SimilarityKernel, alignment: Any) -> tf.Tensor:
        features = self._similarities(response, kernel)
        if alignment is not None:
            features = alignment(features - tf.stop_gradient(self._centre(features, kernel)))
        return normalise(features)

    def _centre(self, features: tf.Tensor, kernel: SimilarityKernel) -> tf.Tensor:
        """About the mean of `features`, which the alignment's products would lose bits to in TF32.

        What is left of it the last normalization takes out, and no gradient of it is left either.
        """
        if self.matching.response == "raw":
            return tf.reduce_mean(features, [0, 1, 2])
        return tf.zeros([]) if self.matching.kernel == "identity" else kernel.width()

    def _similarities(self, response: Any, kernel: SimilarityKernel) -> tf.Tensor:
        """The kernel's, times its width; of linear features `u` itself.

        A factor changes no normalised feature. This one keeps the variance away from the epsilon:
        without it the width grows until epsilon makes the features small.
        """
        if self.matching.kernel == "identity":
            return self.seen_by_kernel(response)
        response = self._channels_last(response)
        if self.matching.response == "raw":
            return kernel.width() * kernel(response)
        return kernel.of_normalised(response)


def _times(gradients: list[Any], factor: tf.Tensor) -> list[Any]:
    return [None if g is None else g * tf.cast(factor, g.dtype) for g in gradients]


def _alignment(wanted: bool, channels: int, name: str) -> keras.layers.Layer | None:
    if not wanted:
        return None
    layer = keras.layers.Conv2D(
        channels, 1, data_format="channels_last", use_bias=False, dtype="float32", name=name
    )
    layer.build((None, None, None, channels))
    return layer
