"""Fused batch normalization against Keras' own: outputs, gradients, moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import batch, fit, network, pkkd

from pkkd_tf.distillation.fused_norm import FusedBatchNorm, can_be_fused, fused
from pkkd_tf.distillation.recomputation import RecomputedNetwork
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.models import build
from pkkd_tf.optimizers import AdderSGD

SHAPE = (6, 5, 4, 3)


def norm(shape=SHAPE, **options):
    """A layer whose weights and statistics are no longer where they started."""
    layer = keras.layers.BatchNormalization(**options)
    layer.build(shape)
    random = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(random.uniform(0.5, 2.0, variable.shape))
    return layer


def inputs(dtype="float32", shape=SHAPE):
    random = np.random.default_rng(1)
    x = tf.cast(random.normal(3.0, 2.0, shape), dtype)
    return x, tf.cast(random.normal(size=shape), dtype)


def trained(layer, own, x, upstream):
    """Outputs, gradients in x, gamma and beta, and the moving statistics after the pass."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    weights = [v.value for v in own.trainable_variables]
    gradients = tape.gradient(y, [x, *weights], upstream)
    return [y, *gradients, own.moving_mean.numpy(), own.moving_variance.numpy()]


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 1e-5}],
    ids=str,
)
def test_training_gives_what_keras_gives(options, dtype):
    x, upstream = inputs(keras.dtype_policies.get(dtype).compute_dtype)
    first, second = (norm(dtype=dtype, **options) for _ in range(2))
    found = trained(FusedBatchNorm(first), first, x, upstream)
    expected = trained(second, second, x, upstream)
    close = {"float32": 2e-5, "mixed_float16": 4e-3, "mixed_bfloat16": 4e-2}[dtype]
    for a, b in zip(found, expected, strict=True):
        assert tf.as_dtype(a.dtype) == tf.as_dtype(b.dtype)
        np.testing.assert_allclose(
            tf.cast(a, "float32"), tf.cast(b, "float32"), rtol=close, atol=close
        )


@pytest.mark.parametrize("trainable, training", [(True, False), (True, None), (False, True)])
def test_inference_and_frozen_layers_are_left_to_keras(trainable, training):
    layer, (x, _) = norm(), inputs()
    layer.trainable = trainable
    expected, before = layer(x, training=False), layer.moving_mean.numpy()
    np.testing.assert_array_equal(FusedBatchNorm(layer)(x, training=training), expected)
    np.testing.assert_array_equal(layer.moving_mean, before)


def test_one_number_a_channel_has_no_variance():
    layer, shape = norm((1, 1, 1, 3)), (1, 1, 1, 3)
    x, _ = inputs(shape=shape)
    other = norm(shape)
    found, expected = FusedBatchNorm(layer)(x, training=True), other(x, training=True)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(layer.moving_variance, other.moving_variance)


@pytest.mark.parametrize(
    "layer",
    [
        norm(synchronized=True),
        norm(axis=1),
        norm((4, 3)),
        norm(renorm=True),
        norm(dtype="float64"),
        keras.layers.LayerNormalization(),
    ],
    ids=["synchronized", "channels first", "vectors", "renorm", "float64", "another layer"],
)
def test_what_is_not_fused(layer):
    assert not can_be_fused(layer)


def test_every_normalization_of_the_networks_is_fused_with_its_own_variables():
    model = build("resnet20", "adder")
    twin = fused(model)
    stock = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    found = [x.layer for x in twin.layers if isinstance(x, FusedBatchNorm)]
    assert len(stock) == 22 and {id(x) for x in stock if can_be_fused(x)} == {id(x) for x in found}
    assert len(found) >= 21
    ours, theirs = ([id(v) for v in m.weights] for m in (model, twin))
    assert sorted(ours) == sorted(theirs)
    recomputed = RecomputedNetwork(model, [])
    inside = [x for part, _ in recomputed._parts for x in part.layers]
    assert sum(isinstance(x, FusedBatchNorm) for x in inside) == len(found)


@pytest.mark.slow
def test_the_network_itself_is_left_alone():
    student = network("adder")
    model = pkkd(student, network("convolution"))
    model.compile(AdderSGD(0.05))
    fit(model, 1)
    for layer in student.layers:
        assert len(layer._inbound_nodes) == 1, layer.name  # else `layer.output` would be ambiguous


@pytest.mark.slow
def test_a_network_trains_as_with_the_stock_layers(monkeypatch):
    def trained_weights():
        model = pkkd(method="kd")
        model.compile(AdderSGD(0.05))
        logs = fit(model, 3).history
        return model.get_weights(), logs["val_loss"] if "val_loss" in logs else logs["loss"]

    found, loss = trained_weights()
    monkeypatch.setattr("pkkd_tf.distillation.fused_norm.can_be_fused", lambda layer: False)
    expected, stock_loss = trained_weights()
    np.testing.assert_allclose(loss, stock_loss, rtol=1e-5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_the_saved_student_holds_the_stock_layers(tmp_path):
    student = network("adder")
    model = pkkd(student)
    model.compile(AdderSGD(0.05))
    fit(model, 1)
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert not any(isinstance(x, FusedBatchNorm) for x in loaded._flatten_layers())
    images, _ = batch()
    np.testing.assert_array_equal(loaded(images), student(images))


@pytest.mark.parametrize("size", [0, 2])
def test_an_empty_part_of_a_batch_moves_no_statistics(size):
    layer, expected = norm(), norm()
    x, upstream = (t[:size] for t in inputs())
    _, dx, dgamma, dbeta, *_ = trained(FusedBatchNorm(layer), layer, x, upstream)
    if size:
        expected(x, training=True)
    else:
        assert dx.shape == x.shape and not np.any(dgamma) and not np.any(dbeta)
    for found, wanted in zip(layer.variables, expected.variables, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5)


OPERATIONS = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: 2.0 * x * y,
    "function": lambda x, y: keras.ops.relu(x) - keras.activations.silu(y),
    "join": lambda x, y: keras.ops.concatenate([x, y], -1),
    "slice": lambda x, y: x[:, ::2] + y[:, 1::2],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_are_no_layers(name):
    x = keras.Input((6, 5, 3))
    pair = [keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x)) for _ in range(2)]
    model = keras.Model(x, OPERATIONS[name](*pair))
    images = tf.random.stateless_normal((8, 6, 5, 3), (0, 1))
    exact = model(images, training=True)
    np.testing.assert_allclose(fused(model)(images, training=True), exact, atol=1e-5)
    np.testing.assert_allclose(fused(model)(images), model(images), atol=1e-5)
    assert len(fused(model).operations) == len(model.operations)


def test_networks_with_operations_are_trained():
    x = keras.Input((8, 8, 1))
    h = keras.layers.BatchNormalization(momentum=0.9)(AdderConv2D(4, 3, padding="same")(x))
    h = keras.ops.relu(h[:, ::2] + 2.0 * h[:, 1::2])
    model = keras.Model(x, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(h)))
    training = pkkd(model, method="plain", monitor_every=1)
    training.compile(AdderSGD(0.1))
    filters = np.array(model.layers[1].kernel)
    assert np.isfinite(fit(training, 2).history["loss"]).all()
    assert np.abs(filters - model.layers[1].kernel).max() > 0
