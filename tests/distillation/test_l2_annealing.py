"""`PKKD` on layers annealed from l2 to l1: every way of a step follows the same weights."""

import contextlib
import functools

import keras
import numpy as np
import pytest
from tiny_networks import batch, compiled, fit

import pkkd_tf
from pkkd_tf.layers import anneal_l2
from pkkd_tf.optimizers import AdderSGD

WEIGHTS = (1.0, 2 / 3, 1 / 3, 0.0)  # of four steps, annealed over three
SHAPE = {"norm": "layer", "names": ("conv1",)}


def student(strategy=None, **options):
    """A compiled `PKKD` whose layers look at one image at a time."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        options = {"method": "kd", "shape": SHAPE, "monitor_every": 2, **options}
        return compiled(optimizer=AdderSGD(0.05), **options)


@functools.cache
def expected():
    """The weights after four steps with `l2_weight` set by hand, and without it."""
    found = []
    for weights in (WEIGHTS, (0.0,) * 4):
        model = student()
        images, labels = batch(64)
        for step, weight in enumerate(weights):
            model.student.get_layer("conv1").l2_weight = lambda weight=weight: weight
            part = slice(16 * step, 16 * step + 16)
            model.train_step((images[part], labels[part]))
        found.append(model.student.get_weights())
    return found


def error(weights):
    """Largest difference from the annealed weights set by hand, in those from the plain ones."""
    annealed, plain = expected()
    pairs = zip(weights, annealed, plain, strict=True)
    return max(np.abs(w - a).max() / np.abs(p - a).max() for w, a, p in pairs)


WAYS = {
    "eager": {},
    "several-steps": {"run_eagerly": False, "execution": {"steps_per_execution": 4}},
    "accumulated": {"run_eagerly": False, "execution": {"accumulate_steps": 2}},
    "skipping": {"run_eagerly": False, "execution": {"skip_nonfinite": True}},
    "xla": {"run_eagerly": False, "execution": {"jit_compile": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_a_step_follows_the_weights(way):
    model = student(**WAYS[way])
    anneal_l2(model.student, model.optimizer, 3)
    fit(model, 4)
    assert error(model.student.get_weights()) < 1e-3


@pytest.mark.slow
def test_two_replicas_follow_the_weights(two_replicas):
    model = student(two_replicas, run_eagerly=False)
    anneal_l2(model.student, model.optimizer, 3)
    fit(model, 4)
    assert error(model.student.get_weights()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sixteen_bits_follow_the_weights(policy):
    expected()
    keras.config.set_dtype_policy(policy)
    model = student()
    anneal_l2(model.student, model.optimizer, 3)
    fit(model, 4)
    assert error(model.student.get_weights()) < 0.3


def digits(recompute):
    keras.utils.set_random_seed(0)
    network = pkkd_tf.models.build("digits_resnet")
    model = pkkd_tf.PKKD(network, method="plain", monitor_every=2)
    model.compile(AdderSGD(0.05), recompute=recompute)
    anneal_l2(network, model.optimizer, 3)
    model.fit(pkkd_tf.data.load("digits", limit_train=32).train(16), epochs=1, verbose=0)
    return model.get_weights()


@pytest.mark.slow
def test_recomputed_activations_are_of_the_same_weight():
    for kept, recomputed in zip(digits(False), digits(True), strict=True):
        np.testing.assert_allclose(kept, recomputed, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_annealing_goes_on_where_the_optimizer_was_left(tmp_path):
    """Bit for bit: two steps, then the same two as in one go."""
    images, labels = batch(64)
    whole = student()
    anneal_l2(whole.student, whole.optimizer, 3)
    whole.fit(images, labels, batch_size=16, shuffle=False, verbose=0)
    first = student()
    anneal_l2(first.student, first.optimizer, 3)
    first.fit(images[:32], labels[:32], batch_size=16, shuffle=False, verbose=0)
    first.save(tmp_path / "state.keras")
    second = student()
    second.load_weights(tmp_path / "state.keras")
    anneal_l2(second.student, second.optimizer, 3)
    second.fit(images[32:], labels[32:], batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(second.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
