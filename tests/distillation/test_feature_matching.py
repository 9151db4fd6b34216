"""The choices of `FeatureMatching`, and the kernel where raw responses would underflow."""

import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.distillation import FeatureMatching, SimilarityKernel
from pkkd_tf.optimizers import AdderSGD

# Mean responses measured in adder layers of fan-in 144, 288 and 576.
RAW = [(144, -135.0), (288, -284.0), (576, -579.0)]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("kernel", "gauss", "`kernel` must be one of ('exponential', 'rbf', 'identity')"),
        ("response", "centred", "`response` must be one of ('batch_norm', 'raw')"),
        ("teacher_side", "free", "`teacher_side` must be one of ('fixed', 'trained')"),
        ("teacher_sign", 2, "`teacher_sign` must be one of (-1, 1)"),
        ("bound", 0.0, "`bound` must be above 0"),
        ("bound", float("nan"), "`bound` must be above 0"),
    ],
)
def test_bad_choices_are_refused(name, value, rule):
    with pytest.raises(ValueError) as error:
        FeatureMatching(**{name: value})
    assert str(error.value) == f"{rule}. Received: {name}={value!r}"


def test_the_rbf_kernel_has_one_sign():
    message = '`teacher_sign` must be 1 for kernel="rbf", a kernel of a distance. Received: '
    with pytest.raises(ValueError) as error:
        FeatureMatching(kernel="rbf", teacher_sign=-1)
    assert str(error.value) == f"{message}teacher_sign=-1"


def test_a_matching_cannot_be_changed_afterwards_past_its_checks():
    with pytest.raises(AttributeError, match="cannot assign to field 'kernel'"):
        FeatureMatching().kernel = "gauss"


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_bad_widths_are_refused(width):
    with pytest.raises(ValueError) as error:
        SimilarityKernel(initial_width=width)
    assert str(error.value) == (f"`initial_width` must be above 0. Received: initial_width={width}")


@pytest.mark.parametrize("sign", [-1, 1])
def test_kernel_formula(sign):
    u = np.linspace(-3, 3, 7, dtype="float32")
    kernel = SimilarityKernel(sign, initial_width=2.0)
    np.testing.assert_allclose(kernel(u), np.exp(sign * u.astype("float64") / 2), rtol=1e-6)
    kernel.log_width.assign(0.7)
    expected = np.exp(sign * u.astype("float64") / (2 * np.exp(0.7)))
    np.testing.assert_allclose(kernel(u), expected, rtol=1e-6)


def value_and_gradients(kernel, u):
    u = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(u)
        value = kernel(u)
    return value, *tape.gradient(value, [u, kernel.log_width.value])


@pytest.mark.parametrize(("fan_in", "response"), RAW)
def test_a_width_near_the_fan_in_keeps_values_and_gradients_of_raw_responses(fan_in, response):
    exponent = response / fan_in
    value, to_response, to_width = value_and_gradients(
        SimilarityKernel(initial_width=fan_in), response
    )
    np.testing.assert_allclose(value, np.exp(exponent), rtol=1e-6)
    np.testing.assert_allclose(to_response, np.exp(exponent) / fan_in, rtol=1e-5)
    np.testing.assert_allclose(to_width, -exponent * np.exp(exponent), rtol=1e-5)


@pytest.mark.parametrize(("fan_in", "response"), RAW)
def test_sigma_of_one_leaves_raw_responses_no_gradient_whatever_the_bound(fan_in, response):
    assert np.exp(response / 2) < 1e-29
    value, to_response, to_width = value_and_gradients(SimilarityKernel(), response)
    np.testing.assert_allclose(value, np.exp(-10), rtol=1e-6)
    assert to_response == 0 and to_width == 0


@pytest.mark.parametrize("bound", [0.5, 10.0, 80.0])
def test_the_exponent_is_bounded_on_both_sides(bound):
    kernel = SimilarityKernel(initial_width=1.0, bound=bound)
    value = kernel(np.float32([-1e9, -2 * bound, 2 * bound, 1e9])).numpy()
    low, high = np.exp(np.float64([-bound, bound]))
    np.testing.assert_allclose(value, [low, low, high, high], rtol=1e-5)
    np.testing.assert_array_equal(kernel.exponent(2 * bound), np.float32(2 * bound))


def test_the_logarithm_of_the_width_is_trained():
    kernel = SimilarityKernel(initial_width=144.0)
    assert [v.name for v in kernel.trainable_variables] == ["log_width"]
    optimizer = AdderSGD(10.0, momentum=0.0)
    for _ in range(5):  # a larger similarity of a negative response asks for a wider kernel
        with tf.GradientTape() as tape:
            loss = -kernel(np.float32(-144.0))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, [kernel.log_width.value]), kernel.trainable_variables)
        )
    assert kernel.width() > 2 * 144 and kernel.log_width > np.log(2)


def test_weight_decay_pulls_the_width_to_its_start_and_not_to_clipped_exponents():
    kernel = SimilarityKernel(initial_width=144.0)
    optimizer = AdderSGD(1.0, momentum=0.0, weight_decay=0.05)
    kernel.log_width.assign(1.0)
    for _ in range(200):
        optimizer.apply_gradients([(tf.zeros([]), kernel.log_width)])
    np.testing.assert_allclose(kernel.width(), 144.0, rtol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_the_kernel_computes_in_the_type_of_its_policy(policy):
    kernel = SimilarityKernel(initial_width=144.0, dtype=policy)
    for call in (kernel, tf.function(kernel)):
        value = call(tf.constant([-144.0]))
        assert value.dtype == kernel.compute_dtype
        np.testing.assert_allclose(np.float64(value), [np.exp(-1)], rtol=5e-3)


def test_the_kernel_is_rebuilt_from_its_config():
    kernel = SimilarityKernel(-1, 144.0, 5.0, trainable=False, name="kernel")
    twin = SimilarityKernel.from_config(kernel.get_config())
    assert twin.get_config() == kernel.get_config() and not twin.trainable_variables
