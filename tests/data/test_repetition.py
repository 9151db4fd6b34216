"""Epochs that would be the first one again: `fit` says so, and only then."""

import functools
import warnings

import keras
import numpy as np
import pytest

import pkkd_tf.data
from pkkd_tf import PKKD
from pkkd_tf.data.repetition import warn_of_repetition
from pkkd_tf.distillation.warned_fit import warned


@pytest.fixture(scope="module")
def data():
    return pkkd_tf.data.load("digits", limit_train=16)


@functools.wraps(keras.Model.fit)
def returned(*args, **kwargs):
    return args, kwargs


fit = warned(returned, warn_of_repetition)


def test_batches_are_the_same_when_iterated_again_and_new_in_a_later_epoch(data):
    once, again = (np.concatenate([x for x, _ in batches]) for batches in [data.train(8)] * 2)
    np.testing.assert_array_equal(once, again)
    both = np.concatenate([x for x, _ in data.train(8, epochs=2)])
    np.testing.assert_array_equal(both[:16], once)
    assert (both[16:] != once).any()


# Epochs of the data set, arguments of `fit`; two steps an epoch.
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize(
    "epochs, options",
    [
        (1, {"epochs": 2}),
        (1, {"epochs": 2, "steps_per_epoch": 2}),
        (2, {"epochs": 2}),
        (2, {"epochs": 3, "steps_per_epoch": 2}),
        (2, {"initial_epoch": 1, "epochs": 4, "steps_per_epoch": 2}),
    ],
)
def test_repeated_batches_are_warned_of(data, epochs, options, on_device):
    source = data.on_device("CPU:0") if on_device else data
    received = f"Received: a data set of {2 * epochs} batches, epochs="
    with pytest.warns(UserWarning, match=received) as caught:
        fit(keras.Model(), source.train(8, epochs), **options)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "epochs, start, options",
    [
        (1, {}, {}),
        (2, {}, {"epochs": 2, "steps_per_epoch": 2}),
        (4, {"start_epoch": 2}, {"initial_epoch": 2, "epochs": 4, "steps_per_epoch": 2}),
        (1, {"start_step": 1}, {"epochs": 1, "steps_per_epoch": 1}),
        (2, {}, {"epochs": 4, "steps_per_epoch": 1}),
    ],
)
def test_nothing_is_said_of_batches_that_are_new(data, epochs, start, options):
    model, batches = keras.Model(), data.train(8, epochs, **start)
    with warnings.catch_warnings(action="error"):
        assert fit(model, batches, **options) == ((model, batches), options)
        assert fit(model, x=batches, **options) == ((model,), {"x": batches, **options})


def test_nothing_is_said_of_other_data(data):
    with warnings.catch_warnings(action="error"):
        fit(keras.Model(), np.zeros((4, 8, 8, 1)), np.zeros(4), epochs=9)
        fit(keras.Model(), data.train(8).shuffle(2), epochs=9)
        fit(keras.Model(), data.test(8), epochs=9)


def test_training_with_pkkd_warns(data):
    inputs = keras.Input((8, 8, 1))
    student = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))
    model = PKKD(student, method="plain", monitor_every=0)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    with pytest.warns(UserWarning, match="Training batches repeat: .*epochs=2, steps_per_epoch=No"):
        model.fit(data.train(8), epochs=2, verbose=0, shuffle=False)
    with warnings.catch_warnings(action="error"):
        model.fit(data.train(8, 2), epochs=2, steps_per_epoch=2, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == 8
