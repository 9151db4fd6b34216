"""The losses on logits: cross-entropy with labels, and with the teacher's softened softmax."""

from typing import Any

import keras
import tensorflow as tf


def label_loss(labels: Any, logits: Any, weights: Any = None) -> tf.Tensor:
    """Mean cross-entropy `CE(logits, labels)`, nats per image, in float32.

    Args:
        labels: class numbers (N,) or probabilities (N, classes).
        logits: tensor (N, classes).
        weights: of each image's term, (N,); the sum is divided by N, as in Keras. None: all 1.

    Returns:
        Scalar float32.

    Raises:
        ValueError: labels of another shape, such as class numbers (N, 1).

    Example:
        >>> label_loss([1], [[0.0, 0.0]])     # log 2 = 0.6931
    """
    labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)
    if _are_probabilities(labels, logits):
        each = tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    else:
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits)
    return _mean(each, weights)


def distillation_loss(
    student: Any, teacher: Any, temperature: float = 1.0, weights: Any = None
) -> tf.Tensor:
    """`T^2 * CE(softmax(student / T), softmax(teacher / T))`, nats per image, in float32.

    The factor keeps the gradient's size independent of the temperature. Source: Hinton, Vinyals,
    Dean, arXiv 1503.02531; in PKKD (arXiv 2009.13044) the part weighted by alpha. The caller
    decides whether a gradient reaches the teacher.

    Args:
        student: logits (N, classes).
        teacher: logits (N, classes).
        temperature: float > 0.
        weights: as of `label_loss`.

    Returns:
        Scalar float32; its minimum over `student` is the teacher's entropy, not 0.

    Example:
        >>> distillation_loss([[0.0, 0.0]], [[0.0, 0.0]])     # log 2 = 0.6931
    """
    student, teacher = tf.cast(student, tf.float32), tf.cast(teacher, tf.float32)
    target = tf.nn.softmax(teacher / temperature)
    each = tf.nn.softmax_cross_entropy_with_logits(target, student / temperature)
    return _mean(each, weights) * temperature**2


def accuracy(labels: Any, logits: Any) -> tf.Tensor:
    """Whether each image's largest logit is its label's: float32 (N,) of 0 and 1.

    Args:
        labels: class numbers (N,) or probabilities (N, classes).
        logits: tensor (N, classes).

    Returns:
        Tensor (N,) float32.

    Raises:
        ValueError: labels of another shape.

    Example:
        >>> accuracy([1], [[0.0, 2.0]])     # [1.0]
    """
    labels, logits = tf.convert_to_tensor(labels), tf.convert_to_tensor(logits)
    if _are_probabilities(labels, logits):
        labels = tf.argmax(labels, -1)
    matches = tf.argmax(logits, -1) == tf.cast(labels, tf.int64)
    return keras.ops.cast(matches, "float32")


def _mean(each: tf.Tensor, weights: Any) -> tf.Tensor:
    return tf.reduce_mean(each if weights is None else each * weights)


def _are_probabilities(labels: tf.Tensor, logits: tf.Tensor) -> bool:
    """Whether labels are (N, classes), not (N,); else (N, 1) would broadcast to a wrong loss."""
    if labels.shape.rank == 1:
        return False
    if labels.shape.rank != 2 or labels.shape[1] != logits.shape[1]:
        raise ValueError(
            "Labels must be class numbers (N,) or probabilities (N, classes). "
            f"Received: labels.shape={labels.shape}, logits.shape={logits.shape}"
        )
    return True
