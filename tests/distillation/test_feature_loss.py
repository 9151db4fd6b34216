"""The features of a matched pair against NumPy in float64, and what their loss can reach."""

import itertools

import keras
import numpy as np
import numpy_distillation as formulas
import pytest
import tensorflow as tf

from pkkd_tf.distillation import FeatureLoss, FeatureMatching

CHANNELS, FAN_IN = 4, 36
SHAPE = (5, 3, 3, CHANNELS)
CHOICES = [
    {"kernel": k, "response": r, "teacher_sign": s, "student_alignment": a, "teacher_side": t}
    for k, r, s, a, t in itertools.product(
        ["exponential", "identity"], ["batch_norm", "raw"], [-1, 1], [False, True],
        ["fixed", "trained"],
    )
]  # fmt: skip


def responses():
    """As a student and a teacher have them: near minus the fan-in, and of unit size."""
    random = np.random.default_rng(0)
    student = random.normal(-FAN_IN, 5.0, SHAPE) * [1, 0.7, 1, 1.2]
    teacher = random.normal(0.1, 1.0, SHAPE) - 0.05 * (student + FAN_IN)
    return student.astype("float32"), teacher.astype("float32")


def trained_pair(**choices):
    """A pair whose widths and alignments are no longer where they started."""
    pair = FeatureLoss(FeatureMatching(**choices), CHANNELS, FAN_IN, "pair")
    random = np.random.default_rng(1)
    for variable in pair.trainable_variables:
        variable.assign_add(random.normal(0, 0.2, variable.shape))
    return pair


def own_weights(pair):
    return {v.path: keras.ops.convert_to_numpy(v).astype("float64") for v in pair.weights}


def expected_features(pair, student, teacher, weights=None):
    """In float64, with `weights` by path in place of the pair's own."""
    weights = weights or own_weights(pair)

    def side(response, kernel, alignment, sign):
        rho = None if alignment is None else weights[alignment.kernel.path][0, 0]
        width = kernel.initial_width * np.exp(weights[kernel.log_width.path])
        return formulas.features(response, pair.matching, sign, width, rho)

    sign = pair.matching.teacher_sign
    return (
        side(student, pair.student_kernel, pair.student_alignment, 1),
        side(teacher, pair.teacher_kernel, pair.teacher_alignment, sign),
    )


def loss_of(pair, student, teacher):
    found = pair.loss(student, teacher)
    features = pair(student, teacher)
    np.testing.assert_allclose(found, np.mean(np.square(np.subtract(*features))), rtol=1e-5)
    return found


@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())))
def test_features_follow_the_formula_and_the_loss_stays_in_its_range(choices):
    student, teacher = responses()
    pair = trained_pair(**choices)
    found = pair(student, teacher)
    for side, expected in zip(found, expected_features(pair, student, teacher)):
        assert side.dtype == tf.float32
        np.testing.assert_allclose(side, expected, rtol=1e-3, atol=2e-4)
        np.testing.assert_allclose(np.mean(side, (0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(np.std(side, (0, 1, 2)), 1, rtol=2e-3)
    assert 0 <= loss_of(pair, student, teacher) <= 4


def test_the_loss_reaches_both_ends_of_its_range():
    student, _ = responses()
    pair = FeatureLoss(
        FeatureMatching(kernel="identity", student_alignment=False), CHANNELS, FAN_IN, "pair"
    )
    np.testing.assert_allclose(loss_of(pair, student, student), 0, atol=1e-6)
    np.testing.assert_allclose(loss_of(pair, student, -student), 4, rtol=1e-3)


@pytest.mark.parametrize("kernel", ["exponential", "identity"])
def test_scale_and_offset_of_a_channel_change_nothing(kernel):
    student, teacher = responses()
    pair = trained_pair(kernel=kernel)
    scale, offset = np.float32([2.0, 0.5, 1.0, 3.0]), np.float32([4.0, -9.0, 0.0, 100.0])
    moved = pair(student * scale + offset, teacher * scale - offset)
    for side, as_before in zip(moved, pair(student, teacher)):
        np.testing.assert_allclose(side, as_before, atol=2e-3)


def test_a_constant_channel_gives_zero_features_and_finite_gradients():
    student, teacher = responses()
    student[..., 1] = -FAN_IN
    pair = FeatureLoss(FeatureMatching(student_alignment=False), CHANNELS, FAN_IN, "pair")
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = loss_of(pair, student, teacher)
    features, _ = pair(student, teacher)
    np.testing.assert_allclose(features[..., 1], 0, atol=1e-3)
    assert np.isfinite(tape.gradient(loss, student)).all()


@pytest.mark.parametrize("channels", [1, CHANNELS])
def test_channels_first_gives_the_same_features(channels):
    student, teacher = (r[..., :channels] for r in responses())
    keras.utils.set_random_seed(0)
    last = FeatureLoss(FeatureMatching(), channels, FAN_IN, "pair")
    keras.utils.set_random_seed(0)
    first = FeatureLoss(FeatureMatching(), channels, FAN_IN, "pair", "channels_first")
    found = first(*(np.moveaxis(r, -1, 1) for r in (student, teacher)))
    for side, expected in zip(found, last(student, teacher)):
        np.testing.assert_allclose(side, expected, atol=1e-6)


GRADED = [
    {},
    {"kernel": "identity"},
    {"response": "raw"},
    {"kernel": "rbf"},
    {"teacher_side": "trained", "teacher_sign": -1},
    {"bound": 0.5},
]


@pytest.mark.parametrize("choices", GRADED, ids=str)
def test_gradients_are_the_derivatives_through_mean_and_variance(choices):
    student, teacher = responses()
    pair = trained_pair(**choices)
    variables = [v.value for v in pair.trainable_variables]
    at = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = 3 * loss_of(pair, at, teacher)
    to_response, *to_variables = tape.gradient(loss, [at, *variables])
    random, weights = np.random.default_rng(2), own_weights(pair)

    def slope(features_at):
        """Of the float64 formula, by central differences."""
        ends = [3 * ((a - c) ** 2).mean() for a, c in (features_at(1e-5), features_at(-1e-5))]
        return (ends[0] - ends[1]) / 2e-5

    direction = random.normal(size=SHAPE)
    expected = slope(lambda t: expected_features(pair, student + t * direction, teacher))
    np.testing.assert_allclose(np.sum(to_response * direction), expected, rtol=1e-3)

    for variable, gradient in zip(pair.trainable_variables, to_variables):
        path, direction = variable.path, random.normal(size=variable.shape)

        def moved(t, path=path, direction=direction):
            changed = {**weights, path: weights[path] + t * direction}
            return expected_features(pair, student, teacher, changed)

        np.testing.assert_allclose(np.sum(gradient * direction), slope(moved), rtol=1e-3)


def test_no_gradient_points_along_scale_or_offset_of_a_normalised_response():
    """With mean and variance held constant both sums are far from zero."""
    student, teacher = (tf.constant(r) for r in responses())
    pair = trained_pair()
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = loss_of(pair, student, teacher)
    gradient = tape.gradient(loss, student)
    size = np.abs(gradient).sum((0, 1, 2))
    assert (np.abs(np.sum(gradient, (0, 1, 2))) < 1e-4 * size).all()
    centred = student - tf.reduce_mean(student, (0, 1, 2))
    along = np.abs(np.sum(gradient * centred, (0, 1, 2)))
    assert (along < 1e-3 * size * np.std(student, (0, 1, 2))).all()


@pytest.mark.parametrize("side", ["fixed", "trained"])
@pytest.mark.parametrize("allowed", [False, True])
def test_the_teacher_gets_a_gradient_only_where_that_is_asked_for(side, allowed):
    student, teacher = (tf.constant(r) for r in responses())
    pair = trained_pair(teacher_side=side, teacher_gradient=allowed)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = loss_of(pair, student, teacher)
    gradient = tape.gradient(loss, teacher)
    assert (gradient is not None) == allowed
    if allowed:
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize(
    ("choices", "trained"),
    [
        ({}, ["student_kernel/log_width", "student_align/kernel"]),
        ({"student_alignment": False}, ["student_kernel/log_width"]),
        ({"kernel": "identity"}, ["student_align/kernel"]),
        ({"kernel": "identity", "student_alignment": False}, []),
        (
            {"teacher_side": "trained"},
            ["student_kernel/log_width", "teacher_kernel/log_width"]
            + ["student_align/kernel", "teacher_align/kernel"],
        ),
    ],
    ids=str,
)
def test_which_weights_are_trained(choices, trained):
    pair = FeatureLoss(FeatureMatching(**choices), CHANNELS, FAN_IN, "pair")
    student, teacher = responses()
    assert [v.path for v in pair.trainable_variables] == trained
    with tf.GradientTape() as tape:
        loss = loss_of(pair, student, teacher)
    for gradient in tape.gradient(loss, [v.value for v in pair.trainable_variables]):
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("fan_in", [144, 576, 4608])
def test_raw_responses_of_every_fan_in_start_with_features_of_unit_size(fan_in):
    random = np.random.default_rng(0)
    student = random.normal(-0.95 * fan_in, 0.85 * fan_in**0.5, (16, 4, 4, CHANNELS))
    teacher = random.normal(size=student.shape)
    pair = FeatureLoss(FeatureMatching(response="raw"), CHANNELS, fan_in, "pair")
    for side in pair(student.astype("float32"), teacher.astype("float32")):
        np.testing.assert_allclose(np.std(side, (0, 1, 2)), 1, rtol=1e-3)
