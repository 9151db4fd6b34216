"""Adder twins of convolutional networks."""

import re
import warnings

import keras
import numpy as np
import pytest

from pkkd_tf import PKKD, models
from pkkd_tf.layers import AdderConv2D, AdderDense, AdderDepthwiseConv2D
from pkkd_tf.models import to_adders

layers = keras.layers


def kinds(model):
    found = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    return {layer.name: type(layer) for layer in found}


def own_network():
    """A bare addition, a network inside, a depthwise layer, a dense one that is called twice."""
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, name="first")(image) + 1.0
    options = {"strides": 2, "groups": 2, "kernel_regularizer": "l2", "use_bias": False}
    inner = [layers.Conv2D(8, 3, name="conv", **options), layers.DepthwiseConv2D(3, name="deep")]
    x = keras.Sequential([keras.Input((10, 10, 8)), *inner], name="inside")(x)
    middle = layers.Dense(8, name="middle")
    x = middle(middle(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(image, layers.Dense(5, name="last")(x))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("resnet18", "resnet50") else name
        for name in models.MODELS
    ],
)
def test_the_papers_networks_become_their_adder_twins(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = to_adders(models.build(name, "convolution"))
    built = models.build(name, "adder")
    assert kinds(twin) == kinds(built)
    for ours, theirs in zip(twin.layers, built.layers):
        assert ours.output.shape == theirs.output.shape


def test_what_is_between_first_and_last_adds():
    twin = to_adders(own_network())
    found = kinds(twin)
    assert (found["conv"], found["deep"]) == (AdderConv2D, AdderDepthwiseConv2D)
    assert (found["first"], found["middle"], found["last"]) == (
        layers.Conv2D,
        AdderDense,
        layers.Dense,
    )
    conv = twin.get_layer("inside").get_layer("conv")
    assert (conv.strides, conv.groups, conv.use_bias) == ((2, 2), 2, False)
    assert isinstance(conv.kernel_regularizer, keras.regularizers.L2)
    assert 0.8 < np.std(conv.kernel) < 1.2 and np.isfinite(twin(np.ones((2, 12, 12, 3)))).all()


def test_a_twin_is_a_student():
    teacher = models.build("digits_resnet", "convolution")
    model = PKKD(to_adders(teacher), teacher)
    assert model.matched_layers == PKKD(models.build("digits_resnet"), teacher).matched_layers


def test_named_layers_are_kept():
    found = kinds(to_adders(own_network(), keep=("middle", "conv")))
    adders = {name for name, kind in found.items() if kind.__module__.startswith("pkkd_tf")}
    assert adders == {"first", "deep", "last"}


def test_what_adds_already_stays_as_it_is():
    twin = to_adders(own_network())
    assert kinds(to_adders(twin, keep=("first",))) == kinds(twin) | {"last": AdderDense}


def test_what_has_no_adder_form_must_be_named():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="mid")(layers.Conv2D(4, 3, name="first")(image))
    x = layers.Flatten()(layers.SeparableConv2D(4, 3, name="odd")(x))
    model = keras.Model(image, layers.Dense(2, name="last")(x))
    message = "keep=['first', 'last'], without adder form=['odd'], layers=['"
    with pytest.raises(
        ValueError, match="`keep` must hold names.* Received: " + re.escape(message)
    ):
        to_adders(model)
    assert kinds(to_adders(model, ("first", "odd", "last")))["mid"] is AdderConv2D


@pytest.mark.parametrize(
    "model, keep, message",
    [
        (keras.Sequential([layers.Dense(2)]), None, "functional or a built sequential model"),
        (keras.Sequential([keras.Input((2,)), layers.ReLU()]), None, "convolutions or dense"),
        (own_network(), ("x",), "`keep` must hold names of layers of `model`"),
        (own_network(), ("first", "conv", "deep", "middle", "last"), "must be left to replace"),
    ],
)
def test_refusals(model, keep, message):
    with pytest.raises(ValueError, match=message + ".* Received: "):
        to_adders(model, keep)


@pytest.mark.parametrize("kind", [AdderConv2D, AdderDepthwiseConv2D])
def test_initializers_of_products_are_warned_of(kind):
    name = "depthwise_initializer" if kind is AdderDepthwiseConv2D else "kernel_initializer"
    sizes = (3,) if kind is AdderDepthwiseConv2D else (4, 3)
    with pytest.warns(
        UserWarning, match=r"start as N\(0, 1\).*Received: initializer=GlorotUniform"
    ):
        kind(*sizes, **{name: "glorot_uniform"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind.from_config(kind(*sizes).get_config())
        kind(*sizes, **{name: "random_normal"})


def test_activations_that_a_response_never_reaches_are_warned_of():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="dead")(x)
    x = layers.Conv2D(4, 3, activation="tanh", name="alive")(x)
    model = keras.Model(image, layers.Dense(2, name="last")(layers.Flatten()(x)))
    with pytest.warns(UserWarning, match="Received: activations={'dead': 'relu'}") as found:
        to_adders(model)
    assert found[0].filename == __file__


def test_the_twin_of_a_frozen_network_learns():
    teacher = own_network()
    teacher.trainable = False
    twin = to_adders(teacher)
    assert not teacher.trainable_variables
    assert len(twin.trainable_variables) == 9
