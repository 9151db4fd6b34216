"""What would compute a training here: told by another process, so that this one holds no GPU.

    python -m benchmarks.computing [--jit_compile]

prints it as a line of JSON, the fields of `Computing`.
"""

import dataclasses
import json
import os
import subprocess
import sys

from experiments.errors import RunError


@dataclasses.dataclass(frozen=True)
class Computing:
    """Devices of this machine, and the code that computes adder responses there.

    Attributes:
        gpus: tuple of str, such as "GPU:0 NVIDIA H100 80GB HBM3".
        cpu: str, the processor's name.
        operations: str, as `experiments.report.machine.adder_operations` says it.
    """

    gpus: tuple[str, ...]
    cpu: str
    operations: str

    def __str__(self) -> str:
        device = ", ".join(self.gpus) or f"{self.cpu}, no GPU"
        return f"device: {device}; adder operations: {self.operations}"

    def names(self) -> list[str]:
        """What CUDA_VISIBLE_DEVICES calls the GPUs."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(n) for n in range(len(self.gpus))]
        return names[: len(self.gpus)]

    def check_gpu(self) -> None:
        """Raises `RunError` unless a GPU computes, by kernels compiled for it."""
        if not (self.gpus and self.operations.startswith("compiled")):
            raise RunError(
                "--require_gpu needs a GPU that TensorFlow sees, and adder operations compiled "
                f"for it (`python -m custom_ops.build` where nvcc is). Received: {self}"
            )


def ask(jit_compile: bool = False) -> Computing:
    """Has a new process find out.

    Args:
        jit_compile: whether XLA is to compile the training step.

    Raises:
        RunError: TensorFlow does not start.
    """
    command = [sys.executable, "-m", "benchmarks.computing", *["--jit_compile"] * jit_compile]
    quiet = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise RunError(f"TensorFlow must start. Received: exit code {done.returncode}, {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Computing(tuple(found["gpus"]), found["cpu"], found["operations"])


def here(jit_compile: bool) -> Computing:
    """What this process finds; TensorFlow takes the GPUs then."""
    from experiments import report

    found = report.environment(jit_compile)
    gpus = tuple(device for device in found["devices"] if "GPU" in device)
    return Computing(gpus, found["cpu"] or "processor", found["adder_operations"])


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(here("--jit_compile" in sys.argv[1:]))))
