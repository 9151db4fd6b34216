"""Steps in parts, steps left out, and activations computed again: each equal to the plain step."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import batch, changed, compiled, fit, network, pkkd, values

import pkkd_tf
from pkkd_tf.distillation.recomputation import RecomputedNetwork
from pkkd_tf.optimizers import AdderSGD

PER_IMAGE = {"norm": "layer", "names": ("conv1",), "sizes": (1,)}
KD = {"method": "kd", "shape": PER_IMAGE, "alpha": 0.7}
ROWS = [12, pytest.param(2, marks=pytest.mark.slow)]  # of the second replica, of the first


def trained(strategy=None, steps=3, execution=None, **options):
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled(run_eagerly=False, monitor_every=2, execution=execution, **options)
    return model, fit(model, steps).history


def assert_same_weights(first, second, tolerance=1e-5):
    for ours, theirs in zip(networks(first), networks(second), strict=True):
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def networks(model):
    """Without the measurements, which are those of a batch's last part."""
    return [model.student, model.teacher] if hasattr(model, "student") else [model]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_trains_as_the_whole_batch_does(parts):
    whole, expected = trained(**KD)
    model, logs = trained(execution={"accumulate_steps": parts}, **KD)
    assert_same_weights(whole, model)
    assert model.optimizer.iterations == model.teacher_optimizer.iterations == 3
    for name in ("loss", "accuracy", "kd_loss", "teacher_loss"):
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_parts_of_a_batch_on_two_replicas(two_replicas):
    whole, _ = trained(**KD)
    model, _ = trained(two_replicas, execution={"accumulate_steps": 2}, **KD)
    assert_same_weights(whole, model)


@pytest.mark.slow
def test_statistics_of_the_batch_are_those_of_the_parts():
    model, logs = trained(execution={"accumulate_steps": 2})
    whole, _ = trained()
    means = [m.student.get_layer("stem_norm").moving_mean.numpy() for m in (model, whole)]
    assert np.isfinite(logs["feature_loss"]).all() and not np.allclose(*means, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 2.0, "2"])
def test_parts_must_be_a_positive_integer(value):
    with pytest.raises(ValueError, match="`accumulate_steps` must be an integer.*Received: acc"):
        compiled(**KD, execution={"accumulate_steps": value})


def test_numpy_integers_are_integers():
    model = compiled(**KD, execution={"accumulate_steps": np.int64(2)})
    assert type(model.get_compile_config()["accumulate_steps"]) is int
    assert model.accumulate_steps == 2


@pytest.mark.slow
def test_a_batch_must_hold_every_part():
    model = compiled(**KD, execution={"accumulate_steps": 5}, run_eagerly=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least `accumulate_steps`"):
        fit(model, 1, size=4)


@pytest.mark.slow
def test_keras_own_accumulation_takes_means_before_the_adaptive_rate():
    images, labels = batch(32)

    def weights(size, **options):
        keras.utils.set_random_seed(0)
        model = network("adder", **PER_IMAGE)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(AdderSGD(0.05, weight_decay=5e-4, **options), loss)
        model.fit(images, labels, batch_size=size, shuffle=False, verbose=0)
        return model

    assert_same_weights(weights(32), weights(8, gradient_accumulation_steps=4))


def poisoned(images, step, size=16, row=0):
    images = images.copy()
    images[step * size + row] = np.nan
    return images


def skipping(strategy=None, row=None, monitor_every=1, steps=3, **options):
    """A model trained on `steps` batches, the second of them with NaN in one row."""
    images, labels = batch(16 * steps)
    images = images if row is None else poisoned(images, 1, row=row)
    with strategy.scope() if strategy else contextlib.nullcontext():
        execution = {"skip_nonfinite": True}
        model = compiled(
            run_eagerly=False, monitor_every=monitor_every, execution=execution, **options
        )
    history = model.fit(images, labels, batch_size=16, shuffle=False, verbose=0).history
    return model, history


def without_second_batch(model):
    images, labels = batch(48)
    keep = np.r_[0:16, 32:48]
    return model.fit(images[keep], labels[keep], batch_size=16, shuffle=False, verbose=0).history


@pytest.mark.slow
def test_a_step_that_is_not_finite_leaves_no_trace():
    model, logs = skipping(row=3)
    other = compiled(run_eagerly=False, monitor_every=1, execution={"skip_nonfinite": True})
    expected = without_second_batch(other)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert logs["skipped_steps"] == [1] and expected["skipped_steps"] == [0]
    for name in set(logs) - {"skipped_steps"}:
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_step_is_left_out_by_all_replicas_if_one_must(two_replicas, row):
    options = {"method": "kd", "shape": {"names": ("conv1",), "sizes": (1,)}}
    model, logs = skipping(two_replicas, row=row, **options)
    options |= {"monitor_every": 1, "execution": {"skip_nonfinite": True}}
    with two_replicas.scope():
        other = compiled(run_eagerly=False, **options)
    without_second_batch(other)
    for variable, expected in zip(model.weights, other.weights, strict=True):
        ours, theirs = (
            two_replicas.experimental_local_results(v.value) for v in (variable, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=variable.path)
    assert logs["skipped_steps"] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["plain", "pkkd"])
def test_a_replica_without_images_is_no_reason_to_leave_a_step_out(two_replicas, method):
    """The last of 17 images is the first replica's; the losses of the second are means of none.

    Of one channel: of no images oneDNN's convolution gives a tensor of its input's shape.
    """
    options = {"shape": {"width": 1}, "execution": {"skip_nonfinite": True}}
    with two_replicas.scope():
        model = compiled(method=method, monitor_every=1, run_eagerly=False, **options)
    logs = model.fit(*batch(17), batch_size=16, shuffle=False, verbose=0).history
    assert logs["skipped_steps"] == [0] and model.optimizer.iterations == 2
    rows = model.layer_statistics().values()
    shares = [sum(row[f"share_{part}"] for part in ("ce", "kd", "feature")) for row in rows]
    np.testing.assert_allclose(shares, 1, rtol=1e-5)
    assert all(np.isfinite(list(row.values())).all() for row in rows)


@pytest.mark.slow
def test_steps_are_left_out_in_float16_too():
    keras.config.set_dtype_policy("mixed_float16")
    model, logs = skipping(row=3, shape=PER_IMAGE, method="kd")
    assert logs["skipped_steps"] == [1]
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_gradients_that_are_not_finite_are_left_out_though_the_loss_is():
    plain = network("adder", **PER_IMAGE)
    steep = plain.output + keras.ops.sqrt(0 * plain.output)
    assert_left_out(keras.Model(plain.input, steep), batch()[0])


def test_float16_losses_that_are_not_finite_are_left_out_without_a_teacher():
    """Statistics too, which an optimizer that scales its loss does not keep."""
    keras.config.set_dtype_policy("mixed_float16")
    assert_left_out(network("adder"), poisoned(batch()[0], 0))


def assert_left_out(student, images):
    """The only step of plain training."""
    model = compiled(student, method="plain", execution={"skip_nonfinite": True})
    before = values(student.weights)
    logs = model.fit(images, batch()[1], batch_size=16, verbose=0).history
    assert logs["skipped_steps"] == [1] and not changed(before, values(student.weights))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_float16_overflow_in_one_replica_is_known_to_all(two_replicas, row):
    keras.config.set_dtype_policy("mixed_float16")
    images, labels = batch(48)
    with two_replicas.scope():
        model = compiled(run_eagerly=False, monitor_every=2, **KD)
    scale = float(model.optimizer.dynamic_scale.numpy())
    data = poisoned(images, 1, row=row), labels
    model.fit(*data, batch_size=16, shuffle=False, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert model.optimizer.iterations == 2
    assert float(model.optimizer.dynamic_scale.numpy()) == scale / 2


def test_nothing_is_left_out_unless_asked_for():
    model = compiled(**KD, run_eagerly=False)
    images, labels = batch(32)
    logs = model.fit(poisoned(images, 1), labels, batch_size=16, shuffle=False, verbose=0).history
    assert np.isnan(logs["loss"]).all() and "skipped_steps" not in logs


@pytest.mark.slow
def test_empty_parts_of_a_test_batch_do_not_count(two_replicas):
    one, _ = trained(**KD)
    two, _ = trained(two_replicas, **KD)
    images, labels = batch(17)
    logs, expected = (
        m.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True) for m in (two, one)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)


def digits(recompute, method="pkkd", strategy=None):
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        student, teacher = (pkkd_tf.models.build("digits_resnet", k) for k in KINDS)
        model = pkkd_tf.PKKD(student, teacher, method, monitor_every=2)
        model.compile(AdderSGD(0.05), recompute=recompute)
    data = pkkd_tf.data.load("digits", limit_train=32)
    return model, model.fit(data.train(16), epochs=1, verbose=0).history


KINDS = ("adder", "convolution")


@pytest.mark.slow
def test_recomputed_activations_change_nothing():
    kept, expected = digits(False)
    model, logs = digits(True)
    assert_same_weights(kept, model, 1e-6)  # moving statistics too: updated once a step
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-4, err_msg=name)


def test_recomputation_needs_blocks():
    model = pkkd(**KD)
    with pytest.raises(ValueError, match="needs residual blocks .*layers in blocks=0"):
        model.compile("sgd", recompute=True)


def test_the_ways_of_a_step_are_saved(tmp_path):
    model = compiled(**KD, execution={"accumulate_steps": 2, "skip_nonfinite": True})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.accumulate_steps, loaded.skip_nonfinite, loaded.recompute) == (2, True, False)


def test_random_numbers_are_not_recomputed():
    """The second pass would draw others, and the gradient be another forward pass's."""
    inputs = keras.Input((8,))
    dropped = keras.layers.Dropout(0.5, name="stage1_block1_drop")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("linear")(dropped))
    with pytest.raises(ValueError, match=r"no layers that draw random.*random=\['stage1_block1_d"):
        RecomputedNetwork(model, [])
