"""Saving in the middle of training, going on bit for bit, and what is deployed."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import batch, compiled, fit, network, pkkd

from pkkd_tf.distillation import PKKD, FeatureMatching
from pkkd_tf.ops import use_path
from pkkd_tf.optimizers import AdderSGD

SHAPE = {"names": ("conv1",), "sizes": (1,)}


def state(model):
    """Every number that a saved model must bring back."""
    optimizers = [o for o in (model.optimizer, model.teacher_optimizer) if o is not None]
    variables = model.weights + [v for o in optimizers for v in o.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def own_arguments(model):
    return {k: v for k, v in model.get_config().items() if k not in ("student", "teacher")}


def assert_same(model, other):
    for a, b in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(a, b)


def schedule():
    decay = keras.optimizers.schedules.CosineDecay(0.1, 20)
    return AdderSGD(decay, momentum=0.9, weight_decay=5e-4, eta=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({"method": "plain"}, "float32"),
        ({"method": "kd", "alpha": 0.5, "temperature": 4.0}, "mixed_float16"),
        (
            {
                "matching": FeatureMatching(teacher_side="trained", teacher_gradient=True),
                "matched_layers": ["conv1"],
                "beta": 0.1,
                "feature_share": 0.2,
                "monitor_every": 0,
            },
            "float32",
        ),
        ({"teacher_mode": "fixed", "monitor_every": 2}, "float32"),
    ],
    ids=["plain", "kd", "pkkd", "fixed"],
)
def test_training_goes_on_bit_for_bit_after_loading(options, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = compiled(optimizer=schedule(), shape=SHAPE, **options)
    fit(model, 2)
    path = tmp_path / "model.keras"
    model.save(path)
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(path)
    assert own_arguments(loaded) == own_arguments(model)
    assert_same(model, loaded)
    logs = [fit(m, 1).history for m in (model, loaded)]
    assert logs[0] == logs[1]
    assert_same(model, loaded)


def sequential(model):
    """A functional network's twin, its layers added one by one."""
    stack = keras.Sequential([keras.Input(model.input_shape[1:])])
    for layer in model.layers[1:]:
        stack.add(type(layer).from_config(layer.get_config()))
    stack.set_weights(model.get_weights())
    return stack


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_the_dtype_policy_is_saved(policy, tmp_path):
    given = compiled(method="kd", shape=SHAPE, dtype=policy)
    keras.config.set_dtype_policy(policy)
    found = pkkd(method="plain", student=network("adder", **SHAPE))
    keras.config.set_dtype_policy("float32")
    for model in (given, found):
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").dtype_policy.name == policy
    scales = isinstance(given.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stacked", "kernel"),
    [(("student",), "exponential"), (("teacher",), "rbf"), (("student", "teacher"), "exponential")],
)
def test_sequential_networks_train_and_are_saved_as_functional_ones(stacked, kernel, tmp_path):
    def start(names):
        keras.utils.set_random_seed(3)
        networks = {"student": network("adder", **SHAPE), "teacher": network("conv", **SHAPE)}
        networks |= {role: sequential(networks[role]) for role in names}
        return compiled(**networks, monitor_every=2, matching=FeatureMatching(kernel=kernel))

    model, functional = start(stacked), start(())
    assert fit(model, 3).history == fit(functional, 3).history
    assert_same(model, functional)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for role in stacked:
        assert isinstance(getattr(loaded, role), keras.Sequential)
    fit(loaded, 2)
    fit(model, 2)
    assert_same(model, loaded)


def test_how_steps_are_executed_is_saved(tmp_path):
    options = {"steps_per_execution": 3, "jit_compile": False}
    model = compiled(method="kd", run_eagerly=False, execution=options)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.steps_per_execution == 3 and loaded.jit_compile is False
    assert not loaded.run_eagerly


FRESH = """
import sys
import keras
import numpy as np
import pkkd_tf
model = keras.saving.load_model(sys.argv[1])
data = np.load(sys.argv[2])
model.fit(data["images"], data["labels"], batch_size=16, shuffle=False, verbose=0)
np.savez(sys.argv[3], *model.get_weights())
"""


@pytest.mark.slow
def test_training_goes_on_bit_for_bit_in_a_fresh_process(tmp_path):
    model = compiled(monitor_every=2, shape=SHAPE)
    fit(model, 1)
    paths = [str(tmp_path / name) for name in ("model.keras", "data.npz", "weights.npz")]
    model.save(paths[0])
    images, labels = batch(32)
    np.savez(paths[1], images=images, labels=labels)
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True)
    fit(model, 2)
    with np.load(paths[2]) as weights:
        for mine, fresh in zip(model.get_weights(), weights.values(), strict=True):
            np.testing.assert_array_equal(mine, fresh)


class Interrupted(Exception):
    pass


class InterruptBefore(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Interrupted


@pytest.mark.slow
def test_backup_and_restore_resumes_bit_for_bit(tmp_path):
    def start(*callbacks):
        model = compiled(optimizer=schedule(), monitor_every=2, shape=SHAPE)
        fit(model, 1, epochs=3, callbacks=list(callbacks))
        return model

    whole = start()
    with pytest.raises(Interrupted):
        start(keras.callbacks.BackupAndRestore(tmp_path), InterruptBefore(2))
    epochs = []
    seen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    resumed = start(keras.callbacks.BackupAndRestore(tmp_path), seen)
    assert epochs == [2]
    assert_same(whole, resumed)


@pytest.mark.slow
def test_model_checkpoint_writes_models_that_load(tmp_path):
    path = str(tmp_path / "{epoch}.keras")
    model = compiled(method="kd")
    images, labels = batch()
    monitor = {"monitor": "val_accuracy", "mode": "max", "save_best_only": False}
    fit(
        model,
        1,
        epochs=2,
        validation_data=(images, labels),
        callbacks=[keras.callbacks.ModelCheckpoint(path, **monitor)],
    )
    assert_same(model, keras.saving.load_model(path.format(epoch=2)))


def test_the_deployed_student_is_the_plain_network(tmp_path):
    model = compiled(monitor_every=1)
    fit(model, 2)
    model.student.save(tmp_path / "student.keras")
    student = keras.saving.load_model(tmp_path / "student.keras")
    images, _ = batch()
    np.testing.assert_array_equal(
        student.predict(images, verbose=0), model.student.predict(images, verbose=0)
    )
    plain = network("adder")
    assert [type(layer) for layer in student.layers] == [type(layer) for layer in plain.layers]
    assert [v.path for v in student.variables] == [v.path for v in plain.variables]
    left_behind = [v for pair in model.pairs for v in pair.variables] + model.teacher.variables
    assert left_behind and not {id(v) for v in left_behind} & {
        id(v) for v in model.student.variables
    }
    names = {layer.name for layer in student._flatten_layers()}
    assert not [n for n in names if "kernel" in n or "align" in n or "features" in n]


def test_what_is_exported_is_the_student(tmp_path):
    model = compiled(method="kd", shape=SHAPE)
    fit(model, 1)
    with use_path("reference"):
        model.export(tmp_path / "served", verbose=False)
    images, _ = batch()
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(
        served.serve(images), model.student(images, training=False), atol=1e-5
    )


def test_the_student_alone_goes_on_training_with_the_adaptive_learning_rate(tmp_path):
    model = compiled(method="kd")
    fit(model, 1)
    model.student.save(tmp_path / "student.keras")
    student = keras.saving.load_model(tmp_path / "student.keras")
    alone = compiled(student=student, method="plain", optimizer=AdderSGD(1.0, 0.0, eta=0.2))
    kernel = student.get_layer("conv1").kernel
    before = kernel.numpy()
    fit(alone, 1)
    step = np.sqrt(np.mean((kernel.numpy() - before) ** 2))
    np.testing.assert_allclose(step, 0.2, rtol=1e-4)


def test_files_with_arguments_that_their_method_makes_no_use_of_are_read():
    """Older versions took them."""
    model = pkkd(method="plain", shape=SHAPE)
    config = model.get_config() | {"alpha": 2.0, "beta": 0.1, "matched_layers": ["conv1"]}
    assert own_arguments(PKKD.from_config(config)) == own_arguments(model)
