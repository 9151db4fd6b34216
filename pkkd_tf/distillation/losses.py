"""The losses on logits: cross-entropy with labels, and with the teacher's softened softmax."""

from typing import Any

import keras
import tensorflow as tf


def label_loss(labels: Any, logits: Any) -> tf.Tensor:
    """Mean cross-entropy `CE(logits, labels)`, nats per image, in float32.

    Args:
        labels: class numbers (N,) or probabilities (N, classes).
        logits: tensor (N, classes).

    Returns:
        Scalar float32.

    Example:
        >>> label_loss([1], [[0.0, 0.0]])     # log 2 = 0.6931
    """
    labels, logits = tf.convert_to_tensor(labels), tf.cast(logits, tf.float32)
    if labels.shape.rank == logits.shape.rank:
        each = tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    else:
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits)
    return tf.reduce_mean(each)


def distillation_loss(student: Any, teacher: Any, temperature: float = 1.0) -> tf.Tensor:
    """`T^2 * CE(softmax(student / T), softmax(teacher / T))`, nats per image, in float32.

    The factor keeps the gradient's size independent of the temperature. Source: Hinton, Vinyals,
    Dean, arXiv 1503.02531; in PKKD (arXiv 2009.13044) the part weighted by alpha. The caller
    decides whether a gradient reaches the teacher.

    Args:
        student: logits (N, classes).
        teacher: logits (N, classes).
        temperature: float > 0.

    Returns:
        Scalar float32; its minimum over `student` is the teacher's entropy, not 0.

    Example:
        >>> distillation_loss([[0.0, 0.0]], [[0.0, 0.0]])     # log 2 = 0.6931
    """
    student, teacher = tf.cast(student, tf.float32), tf.cast(teacher, tf.float32)
    target = tf.nn.softmax(teacher / temperature)
    each = tf.nn.softmax_cross_entropy_with_logits(target, student / temperature)
    return tf.reduce_mean(each) * temperature**2


def accuracy(labels: Any, logits: Any) -> tf.Tensor:
    """Whether each image's largest logit is its label's: float32 (N,) of 0 and 1.

    Args:
        labels: class numbers (N,) or probabilities (N, classes).
        logits: tensor (N, classes).

    Returns:
        Tensor (N,) float32.

    Example:
        >>> accuracy([1], [[0.0, 2.0]])     # [1.0]
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == logits.shape.rank:
        labels = tf.argmax(labels, -1)
    matches = tf.argmax(logits, -1) == tf.cast(labels, tf.int64)
    return keras.ops.cast(matches, "float32")
