"""Layers that are annealed from l2 to l1: what they compute in training, and only there."""

import re

import keras
import numpy as np
import numpy_l2
import pytest
import tensorflow as tf

from pkkd_tf import layers, quantization

# Constructor, arguments, input shape without the batch.
CASES = [
    (layers.AdderConv2D, {"filters": 6, "kernel_size": 3, "strides": 2, "groups": 2}, (7, 8, 4)),
    (layers.AdderDepthwiseConv2D, {"kernel_size": 3, "padding": "same"}, (7, 8, 4)),
    (layers.AdderDense, {"units": 5}, (3, 4)),
]
LAYOUTS = ("channels_last", "channels_first")


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def annealed(model, iterations, steps=8, **options):
    optimizer = keras.optimizers.SGD(0.1)
    layers.anneal_l2(model, optimizer, steps, **options)
    optimizer.iterations.assign(iterations)
    return optimizer


def network(type_=layers.AdderConv2D, arguments=None, shape=(7, 8, 4)):
    inputs = keras.Input(shape)
    arguments = arguments or {"filters": 3, "kernel_size": 3}
    return keras.Model(inputs, type_(**arguments, name="one")(inputs))


def formula(layer, x, weight):
    """The mixture, channels last, by plain loops."""
    window = (1, 1), "VALID", (1, 1), 1
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    if isinstance(layer, layers.AdderDense):
        rows = x.reshape(-1, 1, 1, x.shape[-1])
        y = numpy_l2.forward(rows, kernel[None, None], weight, *window)
        return y.reshape(*x.shape[:-1], -1)
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, layers.AdderDepthwiseConv2D):
        groups, kernel = x.shape[-1], kernel.reshape(*kernel.shape[:2], 1, -1)
    window = layer.strides, layer.padding.upper(), layer.dilation_rate, groups
    return numpy_l2.forward(x, kernel, weight, *window)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_, arguments, shape", CASES)
def test_the_mixture_is_the_trainings_alone(path, type_, arguments, shape, layout):
    first = layout == "channels_first"
    if type_ is layers.AdderDense:
        to, back = (lambda a: a), (lambda a: a)
    else:
        arguments = {**arguments, "data_format": layout}
        to = (lambda a: np.moveaxis(a, 3, 1)) if first else (lambda a: a)
        back = (lambda a: np.moveaxis(a, 1, 3)) if first else (lambda a: a)
    x = numbers((2, *shape))
    model = network(type_, arguments, to(x).shape[1:])
    layer = model.get_layer("one")
    annealed(model, 6)
    trained = back(np.asarray(model(to(x), training=True)))
    np.testing.assert_allclose(trained, formula(layer, x, 0.25), rtol=1e-5)
    for y in (model(to(x), training=False), model(to(x)), model.predict(to(x), verbose=0)):
        np.testing.assert_allclose(back(np.asarray(y)), formula(layer, x, 0.0), rtol=1e-5)


@pytest.mark.parametrize("iterations, weight", [(0, 0.5), (2, 0.375), (7, 0.0625), (8, 0), (99, 0)])
def test_the_weight_falls_to_0_with_the_steps(iterations, weight):
    model = network()
    annealed(model, iterations, start=0.5)
    assert float(model.get_layer("one").l2_weight()) == weight


def test_a_graph_follows_the_steps():
    """Traced once; at the end it is the plain layer bit for bit."""
    model, x = network(), numbers((2, 7, 8, 4))
    optimizer = annealed(model, 0)
    step = tf.function(lambda x: model(x, training=True))
    for iterations, weight in ((0, 1.0), (4, 0.5)):
        optimizer.iterations.assign(iterations)
        np.testing.assert_allclose(step(x), formula(model.layers[-1], x, weight), rtol=1e-5)
    optimizer.iterations.assign(8)
    np.testing.assert_array_equal(step(x), model(x, training=False))


def test_files_have_the_plain_layer(tmp_path):
    """Saved in the middle of the annealing."""
    model, x = network(), numbers((2, 7, 8, 4))
    config, variables = model.get_config(), len(model.weights)
    model.compile("sgd", "mse")
    layers.anneal_l2(model, model.optimizer, 8)
    model.fit(x, np.zeros((2, 5, 6, 3)), epochs=2, verbose=0)
    assert model.get_config() == config and len(model.weights) == variables
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    plain = formula(model.get_layer("one"), x, 0.0)
    for training in (False, True):
        np.testing.assert_allclose(loaded(x, training=training), plain, rtol=1e-5)
    assert not np.allclose(model(x, training=True), plain, rtol=1e-2)
    quantized = quantization.quantize_model(model, x, 8)  # from memory
    error = np.abs(quantized(x, training=True) - plain).max()
    assert error < 0.01 * np.abs(plain).max()


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 1.5}, {"steps": 1, "start": 0.0}])
def test_arguments_out_of_range(options):
    received = f"Received: steps={options['steps']}, start={options.get('start', 1.0)}"
    with pytest.raises(ValueError, match=re.escape(f"`start` in (0, 1]. {received}")):
        layers.anneal_l2(network(), keras.optimizers.SGD(), **options)


def test_numpy_integers_are_integers():
    model = network()
    annealed(model, 2, steps=np.int64(8))
    assert float(model.get_layer("one").l2_weight()) == 0.75


def test_networks_that_cannot_be_annealed():
    message = "must have adder layers, and all of them must be of "
    with pytest.raises(ValueError, match=f"{message}.* Received: .*others=\\[\\]"):
        annealed(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), 0)
    model = network()
    quantized = quantization.quantize_model(model, numbers((2, 7, 8, 4)), 8)
    with pytest.raises(ValueError, match=f"{message}.*others=\\['QuantizedAdderConv2D one'\\]"):
        annealed(quantized, 0)


def test_frozen_layers_are_plain_ones():
    model = network()
    model.compile("sgd", "mse")
    layers.anneal_l2(model, model.optimizer, 8)
    images = numbers((2, *model.input_shape[1:]))
    plain = np.array(model(images))
    assert np.abs(model(images, training=True) - plain).max() > 0.1
    model.trainable = False
    np.testing.assert_array_equal(model(images, training=True), plain)
