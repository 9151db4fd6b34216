"""A run says in its output and in its report what computed the adder responses."""

import json
import pathlib
import subprocess
import sys

import keras
import pytest

from experiments import report
from experiments.report import machine
from pkkd_tf import ops
from pkkd_tf.ops import compiled

ROOT = pathlib.Path(__file__).parents[2]
RUN = ["-m", "experiments.digits", "--smoke", "--method=plain", "--nocompare_plain", "--verbose=0"]


def expected(path):
    if path == "reference":
        return "stock TensorFlow operations, because the path is set to 'reference'"
    return f"compiled ({machine.INSTRUCTION_SETS[compiled.instruction_set()]})"


def test_the_path_in_force(path):
    assert report.environment()["adder_operations"] == expected(path)


def test_types_without_a_compiled_operation():
    keras.config.set_dtype_policy("float64")
    assert machine.adder_operations().startswith("stock TensorFlow operations, because dtype=float")


def test_xla():
    text = "stock TensorFlow operations, because XLA compiles the step"
    assert report.environment(jit_compile=True)["adder_operations"] == text


def test_a_missing_library_is_named_without_its_path(monkeypatch):
    reason = "The compiled library does not exist. Build it with `x`. Received: /home/me/ops.so"
    monkeypatch.setattr(compiled, "_load", lambda: (None, reason))
    with ops.use_path("auto"):
        text = machine.adder_operations()
    wanted = "because the compiled library does not exist. Build it with `x`"
    assert text == f"stock TensorFlow operations, {wanted}"


@pytest.mark.slow
def test_output_and_report(tmp_path):
    done = subprocess.run(
        [sys.executable, *RUN, f"--output={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    text = machine.adder_operations()
    assert f"adder operations: {text}" in done.stdout.splitlines()
    facts = json.loads((tmp_path / "run" / "report.json").read_text())
    assert facts["environment"]["adder_operations"] == text
    assert f"| adder operations | {text} |" in (tmp_path / "run" / "report.md").read_text()


def test_a_gpu_runs_cuda_kernels_where_any_are_compiled(monkeypatch):
    monkeypatch.setattr(machine.tf.config, "list_logical_devices", lambda kind: [f"{kind}:0"])
    assert machine._instructions() == "CUDA"
