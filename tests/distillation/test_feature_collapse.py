"""What training the feature loss alone leads to, on responses that stay as they are.

One small pair of layers stands for the hazard that networks ran into: with trainable transforms
on both sides, one map in all channels is an answer. Measured here by the effective rank.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.distillation import FeatureLoss, FeatureMatching
from pkkd_tf.distillation.similarity import effective_rank
from pkkd_tf.ops import adder_conv2d

CHANNELS, STEPS = 6, 150


def responses(related):
    """Of an adder layer and a convolution: to the same images, or to images of their own."""
    images = tf.nn.relu(tf.random.normal((16, 6, 6, CHANNELS), seed=1))
    others = images if related else tf.nn.relu(tf.random.normal(images.shape, seed=2))
    window = (3, 3, CHANNELS, CHANNELS)
    student = adder_conv2d(images, tf.random.normal(window, seed=3), padding="SAME")
    return student, tf.nn.conv2d(others, tf.random.normal(window, seed=4) / 5, 1, "SAME")


def train(matching, related=True):
    """Returns the features of both sides and their loss, before and after training."""
    student, teacher = responses(related)
    pair = FeatureLoss(matching, CHANNELS, 9 * CHANNELS, "pair")
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build(pair.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            ours, theirs = pair(student, teacher)
            loss = tf.reduce_mean(tf.math.squared_difference(ours, theirs))
        variables = pair.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return ours, theirs, loss

    results = [step() for _ in range(STEPS)]
    return results[0], results[-1]


@pytest.mark.parametrize("response", ["raw", "batch_norm"])
def test_transforms_trained_on_both_sides_end_in_one_map_for_all_channels(response):
    before, after = train(FeatureMatching(teacher_side="trained", response=response))
    assert min(effective_rank(side) for side in before[:2]) > 1.7
    assert max(effective_rank(side) for side in after[:2]) < 1.1
    assert after[2] < 0.6 * before[2]


def test_the_default_keeps_the_rank_of_both_sides():
    before, after = train(FeatureMatching())
    np.testing.assert_array_equal(after[1], before[1])
    assert effective_rank(after[1]) > 5
    assert effective_rank(after[0]) > 2
    assert after[2] < before[2]


@pytest.mark.parametrize("related", [True, False])
def test_the_default_is_not_answered_by_zero_features(related):
    """A wider kernel would make the features small, were their size not kept from the epsilon."""
    _, (student, teacher, loss) = train(FeatureMatching(), related)
    for side in (student, teacher):
        np.testing.assert_allclose(np.std(side, (0, 1, 2)), 1, rtol=1e-2)
    zero = tf.reduce_mean(tf.square(teacher))
    np.testing.assert_allclose(zero, 1, rtol=1e-2)
    np.testing.assert_allclose(loss, 2 - 2 * tf.reduce_mean(student * teacher), rtol=2e-2)


def test_a_student_equal_to_the_teacher_beats_zero_features():
    student, _ = responses(related=True)
    pair = FeatureLoss(FeatureMatching(student_alignment=False), CHANNELS, 9 * CHANNELS, "pair")
    ours, theirs = pair(student, student)
    assert tf.reduce_mean(tf.math.squared_difference(ours, theirs)) < 1e-6
    assert tf.reduce_mean(tf.square(theirs)) > 0.99
