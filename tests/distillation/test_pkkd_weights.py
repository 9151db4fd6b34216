"""Weights of images and of classes, and labels in columns."""

import keras
import numpy as np
import pytest
from tiny_networks import CLASSES, batch, compiled

from pkkd_tf.optimizers import AdderSGD

SHAPE = {"norm": "layer"}  # no image has a part in what another one gives


def learned(model):
    """What both optimizers change; not the shares that are measured."""
    return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]


def trained(data, method="kd", optimizer=None, parts=1, **options):
    """Weights after one step on `data`, and what it logged."""
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    execution = {"accumulate_steps": parts}
    model = compiled(method=method, shape=SHAPE, optimizer=optimizer, execution=execution)
    found = model.fit(*data, batch_size=16, verbose=0, **options).history
    return learned(model), {name: value[0] for name, value in found.items()}


def assert_equal(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("parts", (1, 2))
@pytest.mark.parametrize("method", ("plain", "kd"))
def test_images_of_no_weight_are_as_if_they_were_not_there(method, parts):
    images, labels = batch(16)
    chosen = np.arange(16) % 4 < 2  # half of each part, too
    weights, logs = trained((images, labels), method, sample_weight=2.0 * chosen, parts=parts)
    alone, their_logs = trained((images[chosen], labels[chosen]), method)
    assert_equal(weights, alone, rtol=1e-4, atol=1e-6)
    for name in ("ce_loss", "loss") + (("kd_loss", "teacher_loss") if method == "kd" else ()):
        np.testing.assert_allclose(logs[name], their_logs[name], rtol=1e-5)


@pytest.mark.slow
def test_weights_of_classes_are_those_of_their_images():
    images, labels = batch(16)
    by_class = {number: 0.5 + number for number in range(CLASSES)}
    by_image = np.array([by_class[label] for label in labels])
    ours, logs = trained((images, labels), optimizer=AdderSGD(0.05), class_weight=by_class)
    theirs, _ = trained((images, labels), optimizer=AdderSGD(0.05), sample_weight=by_image)
    assert_equal(ours, theirs)
    _, unweighted = trained((images, labels), optimizer=AdderSGD(0.05))
    assert logs["ce_loss"] != unweighted["ce_loss"]


def test_columns_of_labels_and_weights():
    images, labels = batch(16)
    weights = np.linspace(0, 2, 16)
    ours, logs = trained((images, labels[:, None]), sample_weight=weights[:, None])
    theirs, their_logs = trained((images, labels), sample_weight=weights)
    assert_equal(ours, theirs)
    assert logs == their_logs


def test_evaluation_knows_them_too():
    images, labels = batch(16)
    chosen = np.arange(16) < 8
    model = compiled(method="kd", shape=SHAPE)
    found = model.evaluate(images, labels, sample_weight=2.0 * chosen, verbose=0, return_dict=True)
    alone = model.evaluate(images[:8], labels[:8], verbose=0, return_dict=True)
    for name in ("ce_loss", "kd_loss", "teacher_loss", "loss"):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-5)
    everything = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["accuracy"] == everything["accuracy"]


@pytest.mark.slow
def test_under_two_replicas_in_a_graph(two_replicas):
    images, labels = batch(16)
    weights = np.linspace(0, 2, 16)
    alone, _ = trained((images, labels), sample_weight=weights)
    with two_replicas.scope():
        model = compiled(
            method="kd", shape=SHAPE, optimizer=keras.optimizers.SGD(0.1), run_eagerly=False
        )
    model.fit(images, labels, batch_size=16, sample_weight=weights, verbose=0)
    assert_equal(learned(model), alone, rtol=1e-4, atol=1e-6)
