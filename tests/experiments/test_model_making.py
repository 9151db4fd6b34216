"""Flags reach the model that is trained, and its accuracies the report."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import flags, results
from experiments.errors import RunError
from experiments.history import Table
from experiments.model_making import make_model
from experiments.workers import BATCH_NORM
from pkkd_tf import models

DATA = SimpleNamespace(name="digits", num_classes=10, image_shape=(8, 8, 1))


@pytest.fixture
def made(defined, tmp_path):
    """The model that some flags make, for epochs of four steps."""

    def make(*arguments):
        with flagsaver.flagsaver():
            absl_flags.FLAGS(["test", f"--output={tmp_path}", "--epochs=3", *arguments])
            return make_model(DATA, 4, flags.values())

    return make


def norms(network):
    return [layer for layer in network._flatten_layers() if isinstance(layer, BATCH_NORM)]


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


@pytest.mark.parametrize("method", ["pkkd", "cnn"])
def test_a_student_goes_on_from_a_file(made, tmp_path, method):
    kind = "convolution" if method == "cnn" else "adder"
    trained = models.build("digits_resnet", kind, name="trained")
    trained.set_weights([weight + 0.5 for weight in trained.get_weights()])
    trained.save(tmp_path / "trained.keras")
    model = made(f"--method={method}", f"--student={tmp_path / 'trained.keras'}")
    for found, given in zip(model.student.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, given)


def test_nested_batch_normalization_is_synchronized_too(made, tmp_path):
    trained = models.build("digits_resnet", "adder")
    image = keras.Input(trained.input_shape[1:])
    keras.Model(image, trained(image)).save(tmp_path / "nested.keras")
    model = made("--method=plain", f"--student={tmp_path / 'nested.keras'}", "--sync_batch_norm")
    found = norms(model.student)
    assert len(found) == len(norms(trained)) and all(norm.synchronized for norm in found)


@pytest.mark.parametrize(("method", "kind"), [("cnn", "adder"), ("kd", "convolution")])
def test_a_student_is_of_the_method(made, tmp_path, method, kind):
    models.build("digits_resnet", kind).save(tmp_path / "trained.keras")
    with pytest.raises(RunError) as error:
        made(f"--method={method}", f"--student={tmp_path / 'trained.keras'}")
    assert str(error.value) == (
        "--student must be a network with adder layers; for --method=cnn, one without. "
        f"Received: student={tmp_path / 'trained.keras'}, method={method}"
    )


def test_a_student_is_for_the_data(made):
    with pytest.raises(RunError, match="--student must be a network for images as --dataset has"):
        made("--student=resnet20_cifar10")


def test_accuracies_of_a_report(tmp_path):
    history = Table(tmp_path / "history.csv")
    both = zip([0.1, 0.8, 0.5], [0.9, 0.2, 0.3])
    history.add([{"val_accuracy": ours, "val_teacher_accuracy": theirs} for ours, theirs in both])
    assert results._accuracies(history, {"student": None, "teacher": None}) == {
        "student": {"final": 0.5, "best": 0.8, "best_epoch": 2},
        "teacher": {"final": 0.3, "best": 0.9, "best_epoch": 1},
    }
