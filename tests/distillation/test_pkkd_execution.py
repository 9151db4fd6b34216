"""The same steps in a graph, compiled by XLA, several at once, and in 16 bits."""

import functools

import keras
import numpy as np
import pytest
from tiny_networks import compiled, fit, network, pkkd

from pkkd_tf.optimizers import AdderSGD

SHAPE = {"names": ("conv1",), "sizes": (1,)}


def trained(**options):
    model = compiled(monitor_every=2, optimizer=AdderSGD(0.01), shape=SHAPE, **options)
    return model, fit(model, 4).history


@functools.cache
def expected():
    return trained()


def assert_close(model, logs, expected_model, expected_logs, tolerance):
    assert logs.keys() == expected_logs.keys()
    for name, value in expected_logs.items():
        np.testing.assert_allclose(logs[name], value, rtol=10 * tolerance, err_msg=name)
    for a, b in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "execution",
    [{"steps_per_execution": 4}, {"jit_compile": True}],
    ids=["several-steps", "xla"],
)
def test_a_graph_trains_as_eager_steps_do(execution):
    assert_close(*trained(run_eagerly=False, execution=execution), *expected(), 2e-4)


@pytest.mark.slow
def test_xla_may_leave_steps_out():
    execution = {"jit_compile": True, "skip_nonfinite": True}
    model, logs = trained(run_eagerly=False, execution=execution)
    assert logs.pop("skipped_steps") == [0]
    assert_close(model, logs, *expected(), 2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sixteen_bits_train_as_float32_does(policy):
    _, exact = expected()
    keras.config.set_dtype_policy(policy)
    model, logs = trained()
    scaled = keras.optimizers.LossScaleOptimizer
    is_scaled = [isinstance(o, scaled) for o in (model.optimizer, model.teacher_optimizer)]
    assert is_scaled == [policy == "mixed_float16"] * 2
    for name in ("loss", "ce_loss", "kd_loss", "teacher_loss", "feature_loss", "beta"):
        np.testing.assert_allclose(logs[name], exact[name], rtol=0.05, err_msg=name)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_given_teacher_optimizer_scales_the_float16_loss_too():
    keras.config.set_dtype_policy("mixed_float16")
    model = pkkd(method="kd", shape=SHAPE)
    given = keras.optimizers.SGD(0.1)
    model.compile("sgd", given, run_eagerly=True)
    assert isinstance(model.teacher_optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.teacher_optimizer.inner_optimizer is given
    fit(model, 1)
    assert given.iterations == 1


def test_the_teachers_loss_has_the_scale_of_its_own_optimizer():
    keras.config.set_dtype_policy("mixed_float16")
    moved = []
    for scales in ((1024.0, 1024.0), (1024.0, 16.0)):
        model = pkkd(method="kd", shape=SHAPE)
        sgd = [keras.optimizers.SGD(0.1) for _ in scales]
        scaled = [keras.optimizers.LossScaleOptimizer(o, s) for o, s in zip(sgd, scales)]
        model.compile(*scaled, run_eagerly=True)
        bias = model.teacher.get_layer("head").bias
        before = bias.numpy()
        fit(model, 1)
        moved.append(bias.numpy() - before)
    assert np.abs(moved[0]).max() > 1e-3
    np.testing.assert_allclose(*moved, rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_activity_regularizers_count_in_16_bits(policy):
    keras.config.set_dtype_policy(policy)
    student = network("adder", activity_regularizer=keras.regularizers.L1(1e-4), **SHAPE)
    model = compiled(method="plain", student=student)
    logs = fit(model, 1).history
    assert logs["loss"][0] > logs["ce_loss"][0]
