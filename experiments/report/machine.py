"""The versions and the machine behind a figure."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import pkkd_tf
from pkkd_tf.ops import compiled

INSTRUCTION_SETS = {"baseline": "baseline instructions", "avx2": "AVX2", "avx512": "AVX-512"}
SOURCE = Path(__file__).resolve()


def environment(jit_compile: bool = False) -> dict[str, Any]:
    """Returns what a reader needs to judge a figure: versions, commit, devices, processor, date.

    Neither the host's name nor a path of it is included. Call it after the strategy is set up:
    TensorFlow's devices are initialised.

    Args:
        jit_compile: whether XLA compiles the training step.

    Returns:
        dict of text and numbers, ready for JSON. `git_commit` and `git_modified` are None outside
        a git checkout, `cpu` is None where the system does not name its processor; 0 threads
        mean that TensorFlow chooses.

    Example:
        >>> environment()["versions"]["keras"]
        '3.15.1'
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "versions": _versions(),
        "git_commit": commit,
        "git_modified": None if commit is None or changes is None else bool(changes),
        "devices": [_device(device) for device in tf.config.list_physical_devices()],
        "adder_operations": adder_operations(jit_compile),
        "cpu": cpu_model(),
        "logical_cores": _logical_cores(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def adder_operations(jit_compile: bool = False) -> str:
    """Says what computes the adder responses of a network under Keras' dtype policy.

    Args:
        jit_compile: whether XLA compiles the training step.

    Example:
        >>> adder_operations()
        'compiled (AVX-512)'
        >>> adder_operations(jit_compile=True)
        'stock TensorFlow operations, because XLA compiles the step'
    """
    dtype = tf.as_dtype(keras.config.dtype_policy().compute_dtype)
    reason = "XLA compiles the step" if jit_compile else pkkd_tf.ops.why_reference(dtype)
    if not reason:
        return f"compiled ({_instructions()})"
    reason = reason.split(" Received:")[0].rstrip(".")  # what was received are paths
    reason = reason.replace("The compiled", "the compiled", 1)
    return f"stock TensorFlow operations, because {reason}"


def _instructions() -> str:
    if tf.config.list_logical_devices("GPU"):
        return "CUDA"
    return INSTRUCTION_SETS[compiled.instruction_set()]


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "pkkd_tf": pkkd_tf.__version__,
    }


def _git(*arguments: str) -> str | None:
    """Git's answer about this project; None without git or when git does not know this file."""
    if arguments[0] != "ls-files" and _git("ls-files", "--error-unmatch", str(SOURCE)) is None:
        return None
    command = ["git", "--no-optional-locks", "-C", str(SOURCE.parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _device(device: tf.config.PhysicalDevice) -> str:
    """Such as "GPU:0 NVIDIA H100 80GB HBM3" or "CPU:0"."""
    name = device.name.removeprefix("/physical_device:")
    if device.device_type != "GPU":
        return name
    details = tf.config.experimental.get_device_details(device)
    return f"{name} {details.get('device_name', '')}".strip()


def _logical_cores() -> int:
    """The cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(path: str = "/proc/cpuinfo") -> str | None:
    """The processor's name as Linux has it, else as Python knows it; None where neither does.

    With family and model where Linux tells: virtual machines call several generations "AMD EPYC".
    """
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = (map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    first: dict[str, str] = {}
    for key, value in pairs:
        if value:
            first.setdefault(key, value)
    name = first.get("model name", platform.processor() or None)
    if name is None or not {"cpu family", "model"} <= first.keys():
        return name
    return f"{name} (family {first['cpu family']}, model {first['model']})"
