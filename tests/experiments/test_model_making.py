"""Flags reach the model that is trained, and its accuracies the report."""

from types import SimpleNamespace

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import flags, results
from experiments.history import Table
from experiments.model_making import make_model
from experiments.workers import BATCH_NORM

DATA = SimpleNamespace(num_classes=10, image_shape=(8, 8, 1))


@pytest.fixture
def made(tmp_path):
    """The model that some flags make, for epochs of four steps."""
    if "steps_per_execution" not in absl_flags.FLAGS:
        flags.define(model="digits_resnet")

    def make(*arguments):
        with flagsaver.flagsaver():
            absl_flags.FLAGS(["test", f"--output={tmp_path}", "--epochs=3", *arguments])
            return make_model(DATA, 4, flags.values())

    return make


def norms(network):
    return [layer for layer in network.layers if isinstance(layer, BATCH_NORM)]


def test_both_networks_learn_as_the_flags_say(made):
    model = made("--learning_rate=0.3", "--momentum=0.8", "--weight_decay=2e-3", "--eta=0.7")
    for optimizer in (model.optimizer, model.teacher_optimizer):
        found = optimizer.momentum, optimizer.weight_decay, optimizer.eta
        assert found == pytest.approx((0.8, 2e-3, 0.7))
        rates = [float(optimizer._learning_rate(step)) for step in (0, 6, 12)]
        assert rates == pytest.approx([0.3, 0.15, 0.0], abs=1e-7)


def test_the_training_is_the_flags(made):
    chosen = "--alpha=0.4", "--temperature=3", "--sync_batch_norm", "--recompute", "--on_nan=skip"
    model = made(*chosen, "--l2_anneal=0.5")
    assert (model.alpha, model.temperature, model.teacher_mode) == (0.4, 3.0, "progressive")
    assert model.recompute and model.skip_nonfinite
    both = norms(model.student) + norms(model.teacher)
    assert both and all(norm.synchronized for norm in both)
    model.optimizer.iterations.assign(3)
    assert float(model.student.get_layer("stage1_block1_conv1").l2_weight()) == 0.5


def test_what_is_off_stays_off(made):
    model = made("--method=plain", "--nosync_batch_norm")
    assert not (model.recompute or model.skip_nonfinite or model.teacher)
    assert not any(norm.synchronized for norm in norms(model.student))


def test_accuracies_of_a_report(tmp_path):
    history = Table(tmp_path / "history.csv")
    both = zip([0.1, 0.8, 0.5], [0.9, 0.2, 0.3])
    history.add([{"val_accuracy": ours, "val_teacher_accuracy": theirs} for ours, theirs in both])
    assert results._accuracies(history, {"student": None, "teacher": None}) == {
        "student": {"final": 0.5, "best": 0.8, "best_epoch": 2},
        "teacher": {"final": 0.3, "best": 0.9, "best_epoch": 1},
    }
