"""XLA for all but the adder operations: refused where it does nothing, else the same training."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from experiments import devices
from experiments.errors import RunError

ROOT = pathlib.Path(__file__).parents[2]
RUN = ["-m", "experiments.digits", "--smoke", "--nocompare_plain", "--verbose=0"]
ON_A_PROCESSOR = "--tf_xla_cpu_global_jit"


def test_a_processor_must_be_asked_for(monkeypatch):
    monkeypatch.setattr(devices.tf.config, "list_logical_devices", lambda kind: [])
    monkeypatch.setenv("TF_XLA_FLAGS", f"{ON_A_PROCESSOR}=false")
    with pytest.raises(RunError, match="needs a GPU, or .* Received: no GPU, TF_XLA_FLAGS='--tf"):
        devices.cluster_by_xla()


def trained(folder, *flags):
    done = subprocess.run(
        [sys.executable, *RUN, f"--output={folder}", *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_XLA_FLAGS": ON_A_PROCESSOR, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    return keras.models.load_model(folder / "student.keras"), report, done.stderr


@pytest.mark.long
def test_a_run_learns_the_same_by_the_same_adder_operations(tmp_path):
    ours, report, said = trained(tmp_path / "clusters", "--autoclustering")
    stock, expected, nothing = trained(tmp_path / "stock")
    assert "Compiled cluster using XLA" in said and "using XLA" not in nothing
    for key in ("adder_operations", "devices"):
        assert report["environment"][key] == expected["environment"][key]
    for weight, other in zip(ours.get_weights(), stock.get_weights(), strict=True):
        difference = np.sqrt(np.mean((weight - other) ** 2))
        # Four steps move a filter by some 0.05; of rounding they make up to 7e-4.
        assert difference / max(1, np.sqrt(np.mean(other**2))) < 3e-3
