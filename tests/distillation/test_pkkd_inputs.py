"""Networks that were called before, take structures of tensors, or have nothing to train."""

import keras
import numpy as np
import pytest

from pkkd_tf import PKKD
from pkkd_tf.distillation.matching import pass_through
from pkkd_tf.distillation.recomputation import LOGITS
from pkkd_tf.layers import AdderConv2D
from pkkd_tf.optimizers import AdderSGD
from tests.distillation.tiny_networks import CLASSES, batch, compiled, network


def at_another_size(model):
    """Its layers, called again."""
    x = keras.Input((12, 10, 1))
    outputs = x
    for layer in model.layers[1:]:
        outputs = layer(outputs)
    return keras.Model(x, outputs)


def test_layers_that_were_called_before():
    student, teacher = (at_another_size(network(kind)) for kind in ("adder", "convolution"))
    images, labels = np.random.default_rng(0).normal(size=(8, 12, 10, 1)), np.arange(8) % CLASSES
    model = compiled(student, teacher)
    assert model.matched_layers == ["conv1", "conv2"]
    assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"]).all()
    _, calls, _ = pass_through(student)
    assert calls["conv1"][2].shape == (None, 12, 10, 4)


def test_shapes_are_compared_where_the_networks_compute_them():
    """Not where their layers were called first."""
    student, teacher = network("adder"), network("convolution", sizes=(3, 1))
    again = at_another_size(student)
    with pytest.raises(ValueError, match="equal input and output shapes"):
        PKKD(again, teacher)
    strided = keras.layers.Conv2D(4, 3, padding="same", strides=2, name="conv1")
    strided(teacher.get_layer("conv1").input)
    x = keras.Input((8, 8, 1))
    h = strided(keras.layers.Conv2D(4, 3, padding="same", name="stem")(x))
    logits = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(h))
    received = r"layer='conv1', student=\(None, 8, 8, 4\), teacher=\(None, 4, 4, 4\)"
    with pytest.raises(ValueError, match=received):
        PKKD(student, keras.Model(x, logits))


def ending_in_a_matched_layer(kind):
    """Its logits are means of the responses of a layer that is called "logits"."""
    inner = network(kind, names=("conv1",), sizes=(3,))
    conv = AdderConv2D if kind == "adder" else keras.layers.Conv2D
    last = conv(CLASSES, 1, name="logits")(inner.get_layer("conv1_norm").output)
    return keras.Model(inner.input, keras.layers.GlobalAveragePooling2D()(last))


def test_a_matched_layer_may_be_called_logits():
    student, teacher = (ending_in_a_matched_layer(kind) for kind in ("adder", "convolution"))
    model = compiled(student, teacher)
    assert model.matched_layers == ["conv1", "logits"]
    logs = model.fit(*batch(8), verbose=0).history
    assert np.isfinite([logs[name] for name in ("ce_loss", "kd_loss", "feature_loss")]).all()


def test_masks_end_where_the_networks_layers_end_them(recwarn):
    def masked(kind):
        inner = network(kind, names=("conv1",), sizes=(3,))
        rows = keras.layers.Reshape((64, 4))(inner.get_layer("conv1_norm").output)
        mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Masking()(rows))
        return keras.Model(inner.input, keras.layers.Dense(CLASSES)(mean))

    model = compiled(masked("adder"), masked("convolution"))
    images, _ = batch(8)
    logits = model.student(images, training=True)
    found = model._extractors()[0](images, training=True)[LOGITS]
    np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-5)
    assert not [w for w in recwarn if "mask" in str(w.message)]


STRUCTURES = {
    "dict": (lambda x, y: {"image": x, "other": y}, lambda x, y: {"image": x, "other": y}),
    "list": (lambda x, y: [x, y], lambda x, y: [x, y]),
    "dict of one": (lambda x, y: {"image": x}, lambda x, y: {"image": x}),
    "list for one": (lambda x, y: x, lambda x, y: [x]),
}


def of_structure(kind, name):
    """A network like the tiny ones that also reads a second image where there is one."""
    first, second = (keras.Input((8, 8, 1), name=n) for n in ("image", "other"))
    inner = network(kind)
    taken = STRUCTURES[name][0](first, second)
    both = isinstance(taken, list | dict) and len(taken) == 2
    h = keras.layers.Add()([first, second]) if both else first
    for layer in inner.layers[1:]:
        h = layer(h)
    return keras.Model(taken, h)


@pytest.mark.parametrize("parts", (1, 2))
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_images(name, parts):
    model = PKKD(of_structure("adder", name), of_structure("convolution", name))
    model.compile(AdderSGD(0.05), run_eagerly=True, accumulate_steps=parts)
    (images, labels), (others, _) = batch(8), batch(8, seed=1)
    data = STRUCTURES[name][1](images, others)
    assert np.isfinite(model.fit(data, labels, batch_size=8, verbose=0).history["loss"]).all()
    assert np.isfinite(model.evaluate(data, labels, verbose=0)).all()
    assert model.predict(data, verbose=0).shape == (8, CLASSES)


@pytest.mark.parametrize("structure", (lambda y: [y], lambda y: (y,), lambda y: {"logits": y}))
def test_labels_and_weights_in_structures_of_one(structure):
    """As many images as classes: labels (1, 5) could be probabilities of (5, 5) logits."""
    images, labels = batch(CLASSES)
    weights = np.linspace(0.5, 1.5, CLASSES).astype("float32")
    model = compiled(method="plain")
    expected, found = (
        model.test_step((images, labels if alone else structure(labels), weights))["loss"].numpy()
        for alone in (True, False)
    )
    assert expected == found
    model.reset_metrics()
    data = images, structure(labels), structure(weights)
    np.testing.assert_allclose(model.test_step(data)["loss"], expected, rtol=1e-6)


def test_labels_of_several_outputs_are_refused():
    images, labels = batch(CLASSES)
    rule = r"must be one tensor, for the only output.*Received: shapes=\[\(5,\), \(5,\)\]"
    with pytest.raises(ValueError, match=rule):
        compiled(method="plain").fit(images, [labels, labels], verbose=0)


def test_a_list_of_class_numbers_is_a_batch_of_labels():
    images, labels = batch(CLASSES)
    model = compiled(method="plain")
    expected = model.test_on_batch(images, labels)
    model.reset_metrics()
    assert model.test_step((images, labels.tolist()))["loss"] == expected[0]


@pytest.mark.parametrize("skip_nonfinite", (False, True))
@pytest.mark.parametrize("method", ("kd", "pkkd"))
def test_a_frozen_student_lets_its_teacher_learn(method, skip_nonfinite):
    options = {"beta": 0.0, "monitor_every": 0} if method == "pkkd" else {"monitor_every": 0}
    model = compiled(method=method, execution={"skip_nonfinite": skip_nonfinite}, **options)
    model.student.trainable = False
    model.compile(AdderSGD(0.05), run_eagerly=True, skip_nonfinite=skip_nonfinite)
    ours = [keras.ops.copy(w) for w in model.student.weights]
    theirs = [keras.ops.copy(w) for w in model.teacher.trainable_variables]
    model.fit(*batch(16), verbose=0)
    for weight, before in zip(model.student.weights, ours):  # statistics included
        np.testing.assert_array_equal(weight, before)
    assert all(np.any(w != old) for w, old in zip(model.teacher.trainable_variables, theirs))


@pytest.mark.parametrize("wrapped", (True, False))
def test_averages_of_weights_are_refused_however_they_are_asked_for(wrapped):
    inner = AdderSGD(0.1, use_ema=True)
    optimizer = {"class_name": "SGD", "config": {"learning_rate": 0.1, "use_ema": True}}
    if wrapped:
        optimizer = keras.optimizers.LossScaleOptimizer(inner)
    for arguments in ([optimizer], [AdderSGD(0.1), optimizer]):
        with pytest.raises(ValueError, match="`use_ema` must be off"):
            compiled().compile(*arguments)
