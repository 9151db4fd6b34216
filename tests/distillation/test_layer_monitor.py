"""Effective rank, gradient shares, and the weight of the feature loss that follows them."""

import keras
import numpy as np
import numpy_distillation as formulas
import pytest
import tensorflow as tf
from tiny_networks import batch, compiled, fit

from pkkd_tf.distillation import FeatureMatching, monitor, steps
from pkkd_tf.distillation.similarity import effective_rank
from pkkd_tf.optimizers import AdderSGD

STATISTICS = {"share_ce", "share_kd", "share_feature", "filter_rms"}
STATISTICS |= {"similarity", "exponent", "effective_rank"}


def maps(eigenvalues):
    """Centred maps (N, H, W, C) whose covariance has these eigenvalues, in a turned basis."""
    random, count = np.random.default_rng(0), len(eigenvalues)
    rows = random.normal(size=(64, count))
    rows, _ = np.linalg.qr(rows - rows.mean(0))
    turn, _ = np.linalg.qr(random.normal(size=(count, count)))
    rows = rows * np.sqrt(64 * np.float64(eigenvalues)) @ turn
    return rows.reshape(4, 4, 4, count).astype("float32")


@pytest.mark.parametrize(
    "eigenvalues",
    [[1, 1, 1, 1, 1], [1, 0, 0, 0], [3, 1], [9, 4, 1, 0.25], [1e-3, 1e-3, 0], [100, 50, 0]],
)
def test_effective_rank_of_known_covariances(eigenvalues):
    found = effective_rank(maps(eigenvalues))
    np.testing.assert_allclose(found, formulas.effective_rank(eigenvalues), rtol=1e-4)


def test_effective_rank_of_zero_features_is_zero():
    assert effective_rank(tf.zeros((2, 3, 3, 4))) == 0


def test_shares_of_a_layer_sum_to_one():
    norms = np.float32([[3, 1, 0], [1e-9, 1e-9, 2e-9], [0, 0, 0]])
    expected = [[0.75, 0.25, 0], [0.25, 0.25, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(monitor.shares(norms), expected, rtol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_beta_for_share_gives_the_share(share):
    norms = np.float32([[1.0, 0.5, 0.2]])
    beta = monitor.beta_for_share(tf.constant(0.01), norms, share)
    after = norms * [1, 1, float(beta) / 0.01]
    np.testing.assert_allclose(monitor.shares(after)[0, 2], share, rtol=1e-5)


def test_beta_for_share_is_the_geometric_mean_over_the_layers_that_have_one():
    norms = np.float32([[1, 1, 0.1], [0.5, 0, 0.4], [5, 5, 0], [0, 0, 7]])
    beta = monitor.beta_for_share(tf.constant(0.3), norms, 0.2)
    np.testing.assert_allclose(beta, 0.3 * 0.25 * np.sqrt(20 * 1.25), rtol=1e-5)


@pytest.mark.parametrize(("feature", "factor"), [(1e-6, 10.0), (1e6, 0.1), (0.0, 1.0)])
def test_beta_changes_at_most_ten_times_and_stays_without_a_gradient(feature, factor):
    norms = np.float32([[1, 1, feature]])
    beta = monitor.beta_for_share(tf.constant(0.01), norms, 0.1)
    np.testing.assert_allclose(beta, 0.01 * factor, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_asked_share_is_reached_in_training(policy, share):
    keras.config.set_dtype_policy(policy)
    model = compiled(feature_share=share, monitor_every=1, optimizer=AdderSGD(1e-4))
    start = float(model.monitor.beta)
    logs = [model.train_step(batch()) for _ in range(4)][-1]
    measured = [row["share_feature"] for row in model.layer_statistics().values()]
    odds = np.exp(np.mean([np.log(s / (1 - s)) for s in measured]))  # of the layers' middle
    assert len(measured) == 2
    np.testing.assert_allclose(odds / (1 + odds), share, rtol=0.1)
    np.testing.assert_allclose(logs["feature_share"], np.mean(measured), rtol=1e-5)
    assert float(logs["beta"]) == float(model.monitor.beta) != start


def test_a_given_beta_stays():
    model = compiled(beta=0.25, monitor_every=1)
    assert fit(model, 2).history["beta"] == [0.25]


def test_statistics_against_gradients_and_filters_taken_separately():
    model = compiled(beta=0.25, alpha=0.5, temperature=2.0, monitor_every=1)
    images, labels = batch()
    adders = [model.student.get_layer(name) for name in model.matched_layers]
    filters = [layer.kernel.value for layer in adders]
    expected_rms = [np.sqrt(np.mean(np.square(f))) for f in filters]
    norms = []
    for part, weight in (("ce", 1.0), ("kd", 0.5), ("feature", 0.25)):
        with tf.GradientTape() as tape:
            outputs, theirs = (network(images, training=True) for network in model._extractors())
            matched = list(zip(model.pairs, model.matched_layers))
            features = [pair(outputs[name], theirs[name]) for pair, name in matched]
            parts = model._parts(steps.Batch(images, labels), outputs, theirs)
            parts["feature"] = sum(tf.reduce_mean((a - c) ** 2) for a, c in features)
            loss = parts[part]
        norms.append([weight * np.linalg.norm(g) for g in tape.gradient(loss, filters)])
    expected = np.transpose(norms) / np.sum(norms, 0)[:, None]
    model.train_step((images, labels))
    rows = list(model.layer_statistics().values())
    found = [[row[f"share_{part}"] for part in ("ce", "kd", "feature")] for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(np.sum(found, 1), 1, rtol=1e-5)
    np.testing.assert_allclose([row["filter_rms"] for row in rows], expected_rms, rtol=1e-5)
    for row, (ours, theirs) in zip(rows, features):
        assert set(row) == STATISTICS
        np.testing.assert_allclose(row["similarity"], np.mean(ours * theirs), atol=1e-4)
        np.testing.assert_allclose(row["effective_rank"], effective_rank(ours), rtol=1e-3)
        np.testing.assert_allclose(row["exponent"], 0.5, rtol=1e-2)  # of unit size over width 2


def test_unmatched_layers_are_measured_as_far_as_they_can_be():
    model = compiled(matched_layers=["conv2"], monitor_every=1)
    fit(model, 1)
    rows = model.layer_statistics()
    assert list(rows) == ["conv1", "conv2"]
    assert rows["conv1"]["share_feature"] > 0  # below a matched layer
    assert rows["conv1"]["effective_rank"] == rows["conv1"]["similarity"] == 0
    assert rows["conv2"]["effective_rank"] >= 1


def test_measured_every_so_many_steps():
    model = compiled(monitor_every=3)
    seen = []
    for _ in range(5):
        model.train_step(batch())
        seen.append([float(model.monitor.beta), *np.ravel(model.monitor.table.numpy())])
    assert seen[0] == seen[1] == seen[2] != seen[3] == seen[4]


def test_never_measured_without_an_interval():
    model = compiled(beta=0.01, monitor_every=0)
    logs = fit(model, 1).history
    assert "filter_rms" not in logs and "beta" not in logs
    assert not np.any(model.monitor.table.numpy())


def test_linear_features_have_no_exponent():
    model = compiled(matching=FeatureMatching(kernel="identity"), monitor_every=1)
    assert fit(model, 1).history["exponent"] == [0]


def test_a_step_that_float16_skips_is_not_measured():
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(monitor_every=1)
    model.train_step(batch())
    table, beta = model.monitor.table.numpy(), float(model.monitor.beta)
    model.optimizer.dynamic_scale.assign(2.0**40)
    before = model.student.get_layer("conv1").kernel.numpy()
    model.train_step(batch())
    np.testing.assert_array_equal(model.student.get_layer("conv1").kernel, before)
    np.testing.assert_array_equal(model.monitor.table, table)
    assert float(model.monitor.beta) == beta
