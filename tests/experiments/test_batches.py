"""Sizes of test batches."""

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import batches, flags, training
from pkkd_tf import PKKD


@pytest.mark.parametrize(
    ("images", "most", "pieces", "expected"),
    [
        (10_000, 256, 1, 250),  # CIFAR
        (50_000, 256, 1, 250),  # ImageNet
        (360, 64, 1, 60),  # digits
        (10_000, 250, 1, 250),
        (10_000, 256, 8, 200),  # 250 can not be shared by 8 replicas
        (10_000, 256, 3, 256),  # 10,000 can not
        (10_007, 256, 1, 256),  # a prime number
        (254, 253, 1, 127),
        (254, 255, 1, 254),
        (254, 256 - 1, 2, 254),
        (10, 21, 1, 21),  # 10 would be less than half
        (10, 20, 1, 10),
    ],
)
def test_equal_batches_at_least_half_as_large(images, most, pieces, expected):
    assert batches.of_test(images, most, pieces) == expected


@pytest.fixture
def options(defined, tmp_path):
    with flagsaver.flagsaver():
        absl_flags.FLAGS(["test", f"--output={tmp_path / 'run'}", "--method=cnn", "--smoke"])
        return flags.values()


@pytest.mark.parametrize("placement", ["host", "device"])
def test_a_run_tests_on_equal_batches(options, placement, monkeypatch):
    """digits has 360 test images, which 64 would leave 40 of."""
    found = []

    def fit(model, data, validation_data, **kwargs):
        found.extend(len(batch[0]) for batch in validation_data)

    monkeypatch.setattr(PKKD, "fit", fit)
    monkeypatch.setattr(training.results, "write", lambda *_: None)
    monkeypatch.setitem(training.SMOKE, "batch_size", 64)
    training.run("digits", "digits", {**options, "data_placement": placement})
    assert found == [60] * 6
