"""What the queue says of the device that computes, and what it refuses."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from benchmarks import computing, reproduce
from benchmarks.computing import Computing
from experiments.errors import RunError
from pkkd_tf.ops import compiled

STOCK = "stock TensorFlow operations, because a GPU in use, for which the operations were not"


@pytest.mark.parametrize(
    ("gpus", "operations"),
    [((), "compiled (AVX-512)"), (("GPU:0 NVIDIA H100",), f"{STOCK} compiled")],
)
def test_no_gpu_or_no_kernels_for_it_are_refused(gpus, operations):
    found = Computing(gpus, "Xeon", operations)
    with pytest.raises(RunError, match="^--require_gpu needs a GPU.* Received: device: ") as error:
        found.check_gpu()
    assert operations in str(error.value)
    assert (gpus or ("Xeon, no GPU",))[0] in str(error.value)


def test_a_gpu_and_kernels_for_it_are_enough():
    found = Computing(("GPU:0 NVIDIA H100",), "Xeon", "compiled (CUDA)")
    found.check_gpu()
    assert str(found) == "device: GPU:0 NVIDIA H100; adder operations: compiled (CUDA)"


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "1"]), ("3,1", ["3", "1"]), ("3,1,-1,0", ["3", "1"])]
)
def test_gpus_are_called_what_cuda_calls_them(monkeypatch, visible, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Computing(("GPU:0 A", "GPU:1 A"), "Xeon", "compiled (CUDA)").names() == names


def test_this_machine(monkeypatch):
    """Kernels on the processor are not enough, and a GPU of other kernels serves stock ones."""
    found = computing.here(jit_compile=False)
    assert found.operations.startswith("compiled" if compiled.is_available() else "stock")
    assert computing.here(jit_compile=True).operations.endswith("because XLA compiles the step")
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [gpu])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda *_: [gpu])
    details = {"device_name": "NVIDIA H100"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    found = computing.here(jit_compile=False)
    assert found.gpus == ("GPU:0 NVIDIA H100",)
    if not compiled.has_gpu_kernels():
        assert found.operations.startswith("stock")


@pytest.mark.parametrize("flag", [["--jit_compile"], ["--nojit_compile", "-jit_compile=True"]])
def test_a_step_under_xla_is_known(flag):
    assert reproduce._under_xla(["--alpha=2", *flag])
    assert not reproduce._under_xla([*flag, "--jit_compile=0"])
    assert not reproduce._under_xla([*flag, "--nojit_compile"])


@pytest.mark.slow
def test_without_a_gpu_nothing_starts(tmp_path):
    """Neither a run nor a log; the queue's own process asked another one."""
    command = [sys.executable, "-m", "benchmarks.reproduce", f"--data_dir={tmp_path}"]
    command += [f"--output={tmp_path / 'runs'}", "--require_gpu", "--rows=resnet20/cnn"]
    command += [f"--results={tmp_path / 'results'}"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert "error: --require_gpu needs a GPU that TensorFlow sees" in done.stderr
    assert done.stdout.startswith("device: ") and "no GPU; adder operations: " in done.stdout
