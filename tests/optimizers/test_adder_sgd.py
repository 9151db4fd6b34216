"""The update against its formula, whatever the loss's scale and the number of replicas."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.layers import AdderConv2D, AdderDense, AdderDepthwiseConv2D
from pkkd_tf.layers.common import mark_adder_filters
from pkkd_tf.optimizers import AdderSGD, adaptive_gradient


def variable(values, is_adder, dtype="float64"):
    created = keras.Variable(values, dtype=dtype)
    if is_adder:
        mark_adder_filters(created)
    return created


def formula(f, gradients, is_adder, rates, momentum, weight_decay, eta):
    """The class docstring in NumPy, normalised first, then weight decay, then momentum."""
    m = np.zeros_like(f)
    for g, rate in zip(gradients, rates):
        if is_adder:
            g = g / max(np.linalg.norm(g), 1e-12) * eta * np.sqrt(g.size)
        g = g + weight_decay * f
        m = momentum * m + g
        f = f - rate * m
    return f


@pytest.mark.parametrize("is_adder", [True, False])
@pytest.mark.parametrize(
    "momentum, weight_decay, eta",
    [(0.9, 5e-4, 0.2), (0.0, 5e-4, 0.2), (1e-320, 5e-4, 0.2), (0.0, 0.0, 1.0)],
)
def test_several_steps_equal_the_formula(is_adder, momentum, weight_decay, eta):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((3, 3, 4, 5)), rng.standard_normal((5, 3, 3, 4, 5))
    rates = [0.5, 0.5, 0.25, 0.25, 0.125]  # exact in float32, where an optimizer keeps its rate
    optimizer = AdderSGD(momentum=momentum, weight_decay=weight_decay, eta=eta)
    filters = variable(start, is_adder)
    for rate, gradient in zip(rates, gradients):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant(gradient)], [filters])
    expected = formula(start, gradients, is_adder, rates, momentum, weight_decay, eta)
    np.testing.assert_allclose(filters.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_factor_on_the_loss_moves_only_stock_variables(factor):
    gradient = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")

    def step(is_adder, scale):
        moved = variable(np.zeros((3, 4)), is_adder, "float32")
        AdderSGD(0.1).apply([tf.constant(gradient * np.float32(scale))], [moved])
        return moved.numpy()

    np.testing.assert_allclose(step(True, factor), step(True, 1), rtol=1e-5)
    np.testing.assert_allclose(step(False, factor), factor * step(False, 1), rtol=1e-5)


def test_adaptive_step_has_the_stated_size():
    gradient = np.random.default_rng(0).standard_normal((3, 3, 16, 8)).astype("float32")
    step = np.array(adaptive_gradient(tf.constant(gradient), 0.2))
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2, rel=1e-6)
    assert np.corrcoef(step.ravel(), gradient.ravel())[0, 1] == pytest.approx(1)


def test_a_zero_gradient_stays_zero():
    np.testing.assert_array_equal(adaptive_gradient(tf.zeros([4, 4]), 0.2), np.zeros((4, 4)))


def test_every_layer_has_its_own_norm():
    """Two adder layers, gradients 1000 times apart: both move by the same root mean square."""
    small, large = (variable(np.zeros(100), True, "float32") for _ in range(2))
    gradient = tf.constant(np.linspace(-1, 1, 100), "float32")
    AdderSGD(1.0, eta=0.2).apply([gradient, 1000 * gradient], [small, large])
    np.testing.assert_allclose(small.numpy(), large.numpy(), rtol=1e-5)


def network():
    """Adders, a convolution, a dense layer; no batch norm: its statistics stay per replica."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = AdderConv2D(6, 3, use_bias=True)(x)
    x = keras.layers.Rescaling(0.1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Rescaling(0.1)(AdderDense(5)(x))))


def data(batches, batch=8):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batches * batch, 6, 6, 2)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 3, len(x)))).batch(batch)


def compiled(wrap=lambda optimizer: optimizer):
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(wrap(AdderSGD(0.05, weight_decay=5e-4)), loss)
    return model


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one(path, two_replicas):
    single = compiled()
    start = single.get_weights()
    single.fit(data(4), verbose=0)
    with two_replicas.scope():
        double = compiled()
    double.fit(data(4), verbose=0)
    for before, one, two in zip(start, single.get_weights(), double.get_weights()):
        assert np.abs(one - before).max() > 1e-4
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)


def test_fit_moves_stock_variables_as_keras_sgd():
    """With momentum 0 one step on a network without adders is plain SGD."""

    def step(optimizer):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(optimizer, "mse")
        model.fit(np.ones((2, 4)), np.zeros((2, 3)), verbose=0)
        return model.get_weights()

    for ours, theirs in zip(step(AdderSGD(0.1, momentum=0.0)), step(keras.optimizers.SGD(0.1))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_saved_model_trains_on_bit_identically(tmp_path):
    model = compiled()
    model.fit(data(3), verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, AdderSGD)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for state, saved in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(state.numpy(), saved.numpy())
    for m in (model, loaded):
        m.fit(data(2), verbose=0, shuffle=False)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.CosineDecay(0.3, 5)
    optimizer = AdderSGD(schedule, 0.8, 1e-3, 0.1, "mine", global_clipnorm=2.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is AdderSGD and again.get_config() == optimizer.get_config()
    assert (again.momentum, again.weight_decay, again.eta) == (0.8, 1e-3, 0.1)


@pytest.mark.slow
def test_mixed_float16_steps_as_float32():
    """The loss's scale leaves an adder's step alone; float16 keeps 3 digits of the gradient."""
    keras.config.set_dtype_policy("mixed_float16")
    half = compiled(lambda inner: keras.optimizers.LossScaleOptimizer(inner, initial_scale=256.0))
    start = half.get_weights()
    keras.config.set_dtype_policy("float32")
    full = compiled()
    for model in (half, full):
        model.fit(data(1), verbose=0)
    for before, a, b in zip(start, half.get_weights(), full.get_weights()):
        step = np.linalg.norm(b - before)
        assert step > 1e-4 and np.linalg.norm(a - b) < 0.02 * step


@pytest.mark.parametrize(
    "change", [{"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1e-4}, {"eta": 0.0}]
)
def test_bad_arguments(change):
    values = {"momentum": 0.9, "weight_decay": 0.0, "eta": 0.2, **change}
    message = (
        "`momentum` must be in [0, 1), `weight_decay` at least 0 and `eta` above 0. Received: "
        + ", ".join(f"{name}={value}" for name, value in values.items())
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        AdderSGD(**values)


def test_squares_of_large_halves_do_not_overflow():
    gradient = tf.fill([10], tf.constant(300, tf.float16))
    np.testing.assert_allclose(adaptive_gradient(gradient, 0.2), np.full(10, 0.2), rtol=1e-3)


def test_variables_can_be_spared_from_weight_decay():
    variables = [variable([1.0], False), variable([1.0], False)]
    optimizer = AdderSGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=variables[:1])
    optimizer.build(variables)
    optimizer.apply([tf.zeros([1], tf.float64)] * 2)
    assert variables[0].numpy() == 1 and variables[1].numpy() == pytest.approx(0.95)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_momentum_and_variable_move_in_one_operation(dtype):
    """On a GPU the many small operations of an update take longer than the update."""
    moved = variable(np.ones((3, 4)), False, dtype)
    optimizer = AdderSGD(0.5, momentum=0.5, weight_decay=0.25)
    optimizer.build([moved])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [moved]))
    gradient = tf.constant(np.full((3, 4), 0.25), dtype)
    operations = [o.type for o in step.get_concrete_function(gradient).graph.get_operations()]
    assert operations.count("ResourceApplyMomentum") == 1
    assert operations.count("ResourceApplyGradientDescent") == 1  # the decay
    assert not {"Mul", "Sub", "AssignSubVariableOp"} & set(operations)
    for _ in range(2):
        step(gradient)
    np.testing.assert_array_equal(moved.numpy().astype("float32"), 1 - 0.25 - 0.34375)


def test_weight_decay_can_be_set_before_the_first_step_and_is_applied_once():
    set_later = AdderSGD(0.1)
    set_later.weight_decay = 0.25
    found = [compiled(lambda inner, o=o: o) for o in (set_later, AdderSGD(0.1, weight_decay=0.25))]
    start = found[0].get_weights()
    for model in found:
        model.set_weights(start)
        model.fit(data(1), verbose=0)
    for ours, theirs in zip(*(model.get_weights() for model in found)):
        np.testing.assert_array_equal(ours, theirs)


def test_variables_of_tensorflow_are_known_too():
    """Tapes that watch by themselves hand out these, which Keras' optimizers take."""
    layer = AdderConv2D(4, 3, use_bias=True)
    images = keras.random.normal((2, 6, 6, 2), seed=0)
    layer.build(images.shape)
    before = np.array(layer.kernel)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(layer(images) ** 2)
    variables = tape.watched_variables()
    AdderSGD(1.0, momentum=0.0).apply_gradients(zip(tape.gradient(loss, variables), variables))
    rms = np.sqrt(np.mean((layer.kernel - before) ** 2))
    np.testing.assert_allclose(rms, 0.2, rtol=1e-5)


class Holder(keras.Model):
    """Builds its layer inside of its own call, where Keras hands out copies of the weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("symbolic", (False, True))
@pytest.mark.parametrize("layer", (AdderConv2D(4, 3), AdderDepthwiseConv2D(3), AdderDense(4)))
def test_variables_of_layers_that_other_layers_build_are_known_too(layer, symbolic):
    layer = type(layer).from_config(layer.get_config())
    images = keras.random.normal((2, 6, 6, 2), seed=0)
    model = Holder(layer)
    model(keras.Input((6, 6, 2)) if symbolic else images)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images) ** 2)
    before = np.array(layer.kernel)
    variables = tape.watched_variables()
    AdderSGD(1.0, momentum=0.0).apply_gradients(zip(tape.gradient(loss, variables), variables))
    rms = np.sqrt(np.mean((layer.kernel - before) ** 2))
    np.testing.assert_allclose(rms, 0.2, rtol=1e-5)


def test_hyperparameters_are_numbers():
    optimizer = AdderSGD(0.1, momentum=np.float32(0.5), weight_decay=None, eta=tf.constant(0.25))
    config = optimizer.get_config()
    assert {name: config[name] for name in ("momentum", "weight_decay", "eta")} == {
        "momentum": 0.5,
        "weight_decay": 0.0,
        "eta": 0.25,
    }
    assert AdderSGD(weight_decay=tf.constant(0.5)).weight_decay == 0.5
