"""Data parallelism on two logical devices.

Gradients are summed before the adaptive learning rate normalises them, so the number of replicas
changes nothing but the order of summation, in networks whose layers look at one image at a time.
Statistics over the batch, which batch normalization and the features of `pkkd` take, are each
replica's own; there replicas must agree with each other, not with a single device.
"""

import contextlib
import re

import keras
import numpy as np
import pytest
from tiny_networks import compiled, fit, network

from pkkd_tf import PKKD


def trained(strategy, steps=3, **options):
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled(run_eagerly=False, monitor_every=2, **options)
    return model, fit(model, steps).history


@pytest.mark.slow
def test_two_replicas_train_as_one_device_does(two_replicas):
    shape = {"norm": "layer", "names": ("conv1",), "sizes": (1,)}
    options = {"method": "kd", "shape": shape, "alpha": 0.7, "temperature": 2.0}
    one, expected = trained(None, **options)
    two, logs = trained(two_replicas, **options)
    networks = zip((one.student, one.teacher), (two.student, two.teacher))
    for alone, shared in networks:
        for a, b in zip(alone.get_weights(), shared.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    for name in set(expected) - {"filter_rms"}:
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_replicas_stay_equal_where_statistics_are_their_own(two_replicas):
    model, logs = trained(two_replicas)
    for variable in model.trainable_variables + model.monitor.weights:
        first, second = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first, second)
    assert all(np.isfinite(v).all() for v in logs.values())
    _, alone = trained(None)
    for name in ("loss", "ce_loss", "kd_loss", "teacher_loss", "feature_loss"):
        np.testing.assert_allclose(logs[name], alone[name], rtol=0.1, err_msg=name)
    for row in model.layer_statistics().values():
        np.testing.assert_allclose(
            sum(row[f"share_{p}"] for p in ("ce", "kd", "feature")), 1, rtol=1e-5
        )


@pytest.mark.parametrize("outside", ["networks", "optimizer", "compile"])
def test_what_is_trained_is_made_in_the_scope_of_one_strategy(two_replicas, outside):
    inside = {
        part: two_replicas.scope if part != outside else contextlib.nullcontext
        for part in ("networks", "optimizer", "compile")
    }
    with inside["networks"]():
        networks = [network(kind) for kind in ("adder", "convolution")]
    with two_replicas.scope():
        model = PKKD(*networks)
    with inside["optimizer"]():
        optimizer = keras.optimizers.Adam(0.1)
    first = "adam.*/iteration" if outside == "optimizer" else "stem/kernel"
    named = "None" if outside == "compile" else "MirroredStrategy"
    rule = rf"in the scope of one strategy.*Received: strategy={named}, .*first='{first}'"
    with inside["compile"](), pytest.raises(ValueError, match=rule):
        model.compile(optimizer)


def synchronised(strategy, monitor_every=1, **options):
    """`trained`, with statistics of batch normalization over all replicas."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        networks = [network(kind) for kind in ("adder", "convolution")]
        for layer in [layer for each in networks for layer in each.layers]:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        model = compiled(*networks, run_eagerly=False, monitor_every=monitor_every, **options)
    return model, fit(model, 2).history


@pytest.mark.slow
def test_synchronised_statistics_give_the_shares_of_one_device(two_replicas):
    """A replica's own gradient would not: its half of the statistics' gradient is not its own."""
    keras.utils.set_random_seed(3)
    one, expected = synchronised(None)
    keras.utils.set_random_seed(3)
    two, logs = synchronised(two_replicas)
    for name in ("ce_loss", "kd_loss", "teacher_loss"):
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(logs["beta"], expected["beta"], rtol=0.1)
    statistics = one.layer_statistics(), two.layer_statistics()
    for name in ("conv1", "conv2"):
        alone, shared = ([each[name][f"share_{p}"] for p in ("ce", "kd")] for each in statistics)
        np.testing.assert_allclose(shared, alone, rtol=0.1)


def test_synchronised_statistics_cannot_be_measured_now_and_then(two_replicas):
    message = "`monitor_every` must be 1, or 0 with a fixed `beta`. Received: monitor_every=50"
    with pytest.raises(ValueError, match=re.escape(message)):
        synchronised(two_replicas, monitor_every=50)
