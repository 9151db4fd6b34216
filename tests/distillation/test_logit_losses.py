"""The losses on logits against NumPy in float64."""

import numpy as np
import numpy_distillation as formulas
import pytest
import tensorflow as tf

from pkkd_tf.distillation import distillation_loss, label_loss
from pkkd_tf.distillation.losses import accuracy

N, CLASSES = 7, 5


def logits(seed, scale=3.0):
    return (np.random.default_rng(seed).normal(size=(N, CLASSES)) * scale).astype("float32")


LABELS = np.random.default_rng(9).integers(0, CLASSES, N)
SOFT = formulas.softmax(logits(8)).astype("float32")


def test_label_loss_of_class_numbers():
    expected = formulas.cross_entropy(np.eye(CLASSES)[LABELS], logits(0).astype("float64"))
    np.testing.assert_allclose(label_loss(LABELS, logits(0)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32"])
def test_label_loss_takes_class_numbers_of_every_type(kind):
    assert label_loss(LABELS.astype(kind), logits(0)) == label_loss(LABELS, logits(0))


def test_label_loss_of_probabilities():
    expected = formulas.cross_entropy(SOFT.astype("float64"), logits(0).astype("float64"))
    np.testing.assert_allclose(label_loss(SOFT, logits(0)), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_loss(temperature):
    student, teacher = logits(0), logits(1)
    expected = formulas.distillation(
        student.astype("float64"), teacher.astype("float64"), temperature
    )
    found = distillation_loss(student, teacher, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_of_distillation_loss(temperature):
    student, teacher = tf.constant(logits(0)), tf.constant(logits(1))
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = distillation_loss(student, teacher, temperature)
    difference = formulas.softmax(student.numpy().astype("float64") / temperature)
    difference -= formulas.softmax(teacher.numpy().astype("float64") / temperature)
    np.testing.assert_allclose(
        tape.gradient(loss, student), difference * temperature / N, rtol=1e-4, atol=1e-7
    )


def test_distillation_loss_is_least_at_the_teacher_where_it_is_the_entropy():
    teacher = logits(1)
    p = formulas.softmax(teacher.astype("float64"))
    entropy = -(p * np.log(p)).sum(-1).mean()
    np.testing.assert_allclose(distillation_loss(teacher, teacher), entropy, rtol=1e-6)
    assert distillation_loss(logits(0), teacher) > entropy


def test_half_precision_logits_are_computed_in_float32():
    half = tf.cast(logits(0, 30.0), tf.float16)
    expected = formulas.cross_entropy(np.eye(CLASSES)[LABELS], half.numpy().astype("float64"))
    loss = label_loss(LABELS, half)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert distillation_loss(half, half).dtype == tf.float32


@pytest.mark.parametrize("labels", [LABELS, np.eye(CLASSES, dtype="float32")[LABELS]])
def test_accuracy(labels):
    hits = accuracy(labels, logits(0))
    np.testing.assert_array_equal(hits, logits(0).argmax(-1) == LABELS)
    assert 0 < np.sum(hits) < N


@pytest.mark.parametrize("loss", [label_loss, accuracy])
@pytest.mark.parametrize("shape", [(N, 1), (N, CLASSES + 1), (N, CLASSES, 1), ()])
def test_labels_of_another_shape_are_refused(loss, shape):
    rule = r"Labels must be class numbers \(N,\) or probabilities \(N, classes\). Received: labels"
    with pytest.raises(ValueError, match=rule) as error:
        loss(np.zeros(shape, "int64"), logits(0))
    text = str(error.value).replace("TensorShape", "")
    assert f"labels.shape={shape}" in text and f"logits.shape=({N}, {CLASSES})" in text
