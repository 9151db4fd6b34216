"""Time of a whole training step of ResNet-20, adders beside convolutions, on the processor.

    python -m benchmarks.training_step --batch 128 --output results/training_step

Plain student by the compiled operations and by stock TensorFlow operations, its convolutional twin
trained in the same way, and the whole PKKD step (teacher and student, without the measurements of
every 50th step). They take turns, so that a busy machine is busy for each of them; a time is the
fastest of the turns. Memory is the resident peak of a first step above what was resident before
it, each step in processes of its own, the larger of two. Writes `cpu.json` and `cpu.md` (the table
it prints) into the output folder.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import pkkd_tf
from benchmarks import measure
from benchmarks.report import describe
from pkkd_tf.ops import compiled

TWIN = "convolutional twin"
STEPS = {  # method, kind of the student, path, whether activations are computed again
    TWIN: ("plain", "convolution", "auto", False),
    "plain adder student, compiled": ("plain", "adder", "compiled", False),
    "plain adder student, compiled, recomputed": ("plain", "adder", "compiled", True),
    "plain adder student, reference": ("plain", "adder", "reference", False),
    "PKKD, compiled": ("pkkd", "adder", "compiled", False),
}
REPETITIONS = 2


def steps(batch: int) -> dict[str, Callable[[], tf.Tensor]]:
    """A training step of each kind, as a function without arguments."""
    return {name: _step(batch, *kind) for name, kind in STEPS.items()}


def peaks(batch: int) -> dict[str, list[int]]:
    """Bytes a first step of each kind takes at its peak."""
    measured: dict[str, list[int]] = {name: [] for name in STEPS}
    for _ in range(REPETITIONS):
        for name, values in measured.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                values.append(pool.apply(_peak, (batch, STEPS[name])))
    return measured


def _peak(batch: int, kind: tuple[str, str, str, bool]) -> int:
    return measure.growth(_step(batch, *kind))


def _step(
    batch: int, method: str, kind: str, path: str, recompute: bool
) -> Callable[[], tf.Tensor]:
    images = tf.random.normal([batch, 32, 32, 3])
    data = images, tf.random.uniform([batch], maxval=10, dtype=tf.int32)
    student = pkkd_tf.models.build("resnet20", kind)
    teacher = pkkd_tf.models.build("resnet20", "convolution") if method == "pkkd" else None
    ends = pkkd_tf.models.block_ends(student) if teacher is not None else None
    model = pkkd_tf.PKKD(student, teacher, method, beta=0.01, matched_layers=ends, monitor_every=0)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1, weight_decay=5e-4), recompute=recompute)
    graph = tf.function(lambda: model.train_step(data)["loss"])
    with pkkd_tf.ops.use_path(path):
        graph.get_concrete_function()  # the path is chosen when it is traced
    return graph


def table(
    machine: dict[str, Any],
    seconds: dict[str, float],
    peaks: dict[str, list[int]],
    batch: int,
) -> str:
    """Markdown: milliseconds a step, images a second, MiB, ratios to the twin."""
    lines = [describe(machine), "", f"ResNet-20, batch {batch}.", ""]
    lines += ["| training step | ms | images/s | ratio | peak MiB | ratio |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, value in seconds.items():
        rate, ratio = batch / value, value / seconds[TWIN]
        peak, more = max(peaks[name]), max(peaks[name]) / max(peaks[TWIN])
        lines.append(
            f"| {name} | {value * 1e3:.0f} | {rate:.0f} | {ratio:.2f} | {peak / 2**20:.0f} "
            f"| {more:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("training_step"))
    arguments = parser.parse_args()
    memory = peaks(arguments.batch)
    measured = measure.fastest(steps(arguments.batch), time.perf_counter)
    machine = measure.machine(os.cpu_count()) | {"kernels": compiled.instruction_set()}
    machine["clock"] = "wall time"
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine, "batch": arguments.batch, **measured, "bytes": memory}
    (arguments.output / "cpu.json").write_text(json.dumps(record, indent=1))
    text = table(machine, measured["seconds"], memory, arguments.batch)
    (arguments.output / "cpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
