"""The squared l2 distances that the RBF kernel sees, and the features made of them, by loops."""

import keras
import numpy as np
import numpy_distillation as formulas
import numpy_l2
import pytest
import tensorflow as tf
from tiny_networks import batch, compiled, fit, values

import pkkd_tf
from pkkd_tf.distillation import FeatureMatching, SquaredDistance

RBF = {"kernel": "rbf", "student_alignment": False}
LAYERS = [
    (keras.layers.Conv2D, {"filters": 6, "kernel_size": 3, "padding": "same", "strides": 2}),
    (keras.layers.Conv2D, {"filters": 4, "kernel_size": (3, 2), "groups": 2}),
    (keras.layers.Conv2D, {"filters": 5, "kernel_size": 2, "dilation_rate": 2}),
    (keras.layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}),
]


def negative_distances(layer, images):
    """`-||x - f||^2` of every window in float64; the mixture's l2 part is half of it."""
    kernel, groups = keras.ops.convert_to_numpy(layer.kernel), getattr(layer, "groups", 1)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        groups, kernel = images.shape[-1], kernel.reshape(*kernel.shape[:2], 1, -1)
    window = layer.strides, layer.padding.upper(), layer.dilation_rate, groups
    return 2 * numpy_l2.forward(images, kernel, 1.0, *window)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("type_, arguments", LAYERS)
def test_distances_are_those_of_the_windows(type_, arguments, use_bias):
    images = np.random.default_rng(0).standard_normal((2, 6, 7, 4))
    layer = type_(**arguments, use_bias=use_bias, bias_initializer="random_normal", dtype="float64")
    responses = layer(images)
    found = SquaredDistance(layer, dtype="float64")(images, responses)
    np.testing.assert_allclose(found, negative_distances(layer, images), rtol=1e-11)


def test_distances_of_channels_first():
    """On a response by hand: a processor has no convolution of that layout."""
    images = np.random.default_rng(0).standard_normal((2, 6, 7, 4))
    last = keras.layers.Conv2D(3, 3, dtype="float64", bias_initializer="ones")
    responses = np.asarray(last(images))
    first = keras.layers.Conv2D(
        3, 3, dtype="float64", bias_initializer="ones", data_format="channels_first"
    )
    first.build((2, 4, 6, 7))
    first.set_weights(last.get_weights())
    moved = (np.moveaxis(a, 3, 1) for a in (images, responses))
    found = SquaredDistance(first, dtype="float64")(*moved)
    expected = negative_distances(last, images)
    np.testing.assert_allclose(np.moveaxis(found, 1, 3), expected, rtol=1e-11)


def test_gradients_are_the_derivatives():
    """To the images 2 (f - x), to the filters 2 (x - f); one window sees the whole image."""
    images = tf.constant(np.random.default_rng(0).standard_normal((1, 3, 3, 2)))
    layer = keras.layers.Conv2D(1, 3, dtype="float64", use_bias=False)
    distance = SquaredDistance(layer, dtype="float64")
    layer.build(images.shape)
    with tf.GradientTape() as tape:
        tape.watch(images)
        found = distance(images, layer(images))
    to_images, to_filters = tape.gradient(found, [images, layer.kernel.value])
    difference = images[0] - layer.kernel[..., 0]
    np.testing.assert_allclose(to_images[0], -2 * difference, rtol=1e-12)
    np.testing.assert_allclose(to_filters[..., 0], 2 * difference, rtol=1e-12)


@pytest.mark.parametrize("response", ["batch_norm", "raw"])
def test_features_of_both_networks_are_the_kernels_of_their_distances(response):
    """Laplace kernel of the student's l1 distance, Gaussian of the teacher's l2 distance."""
    model = compiled(matching=FeatureMatching(**RBF, response=response))
    images, _ = batch()
    student, teacher = model._extractors()
    ours, theirs = student(images, training=True), teacher(images, training=True)
    layer = model.teacher.get_layer("conv1")
    inputs = keras.Model(model.teacher.input, layer.input)(images, training=True)
    distances = negative_distances(layer, np.float64(inputs))
    np.testing.assert_allclose(theirs["conv1"], distances, rtol=1e-5)
    found = model.pairs[0](ours["conv1"], theirs["conv1"])
    fan_in = 9 * 4
    widths = (2, 2) if response == "batch_norm" else (fan_in, fan_in / 2)
    for side, raw, width in zip(found, (np.asarray(ours["conv1"]), distances), widths):
        expected = formulas.features(raw, model.matching, 1, width, None)
        np.testing.assert_allclose(side, expected, rtol=1e-3, atol=2e-4)


def test_raw_distances_of_a_new_network_start_far_from_the_bound():
    matching = FeatureMatching(**RBF, response="raw")
    networks = (pkkd_tf.models.build("digits_resnet", k) for k in ("adder", "convolution"))
    model = pkkd_tf.PKKD(*networks, matching=matching)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
    images, _ = next(iter(pkkd_tf.data.load("digits").train(64)))
    responses = model._extractors()[1](images, training=True)
    for name, pair in zip(model.matched_layers, model.pairs):
        mean = np.mean(pair.teacher_kernel.exponent(responses[name]))
        assert -4 < mean < -0.3, name


@pytest.mark.slow
@pytest.mark.parametrize("side", ["fixed", "trained"])
def test_the_feature_loss_does_not_reach_the_teacher(side):
    matching = FeatureMatching(kernel="rbf", teacher_side=side)
    taught, alone = compiled(matching=matching, beta=1.0), compiled(method="kd")
    for model in (taught, alone):
        fit(model, 2)
    for a, b in zip(taught.teacher.get_weights(), alone.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    students = (model.student.get_weights() for model in (taught, alone))
    assert any((a != b).any() for a, b in zip(*students))


@pytest.mark.slow
def test_with_teacher_gradient_it_does():
    moved = []
    for allowed in (False, True):
        model = compiled(matching=FeatureMatching(kernel="rbf", teacher_gradient=allowed), beta=1.0)
        fit(model, 1)
        moved.append(values(model.teacher.trainable_variables))
    assert any((moved[0][name] != moved[1][name]).any() for name in moved[0])


@pytest.mark.slow
def test_a_model_with_the_rbf_kernel_is_loaded_and_trained_on(tmp_path):
    model = compiled(matching=FeatureMatching(kernel="rbf"), monitor_every=1)
    fit(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.matching == model.matching
    logs = [fit(m, 1).history for m in (model, loaded)]
    assert logs[0].keys() == logs[1].keys() and logs[0]["exponent"][0] > 0
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_recomputed_distances_are_the_same():
    networks = [pkkd_tf.models.build("digits_resnet", k) for k in ("adder", "convolution")]
    model = pkkd_tf.PKKD(*networks, matching=FeatureMatching(kernel="rbf"))
    images, _ = next(iter(pkkd_tf.data.load("digits").train(8)))
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1))
    kept = model._extractors()[1](images, training=False)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1), recompute=True)
    recomputed = model._extractors()[1](images, training=False)
    assert kept.keys() == recomputed.keys()
    for name in kept:
        np.testing.assert_allclose(kept[name], recomputed[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["activation", "class"])
def test_twins_whose_response_is_no_product_are_refused(kind):
    layer = keras.layers.Conv2D(3, 1, activation="relu", name="twin")
    layer = pkkd_tf.layers.AdderConv2D(3, 1, name="twin") if kind == "class" else layer
    message = "must be a Conv2D or DepthwiseConv2D without activation. Received: layer='twin' of"
    with pytest.raises(ValueError, match=message):
        SquaredDistance(layer)
