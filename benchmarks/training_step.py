"""Time and memory of a whole training step, adders beside convolutions, on the processor.

    python -m benchmarks.training_step --batch 128 --output results/training_step
    python -m benchmarks.training_step --model resnet50 --batch 4 --skip_reference --output DIR

Plain student by the compiled operations and by stock TensorFlow operations, its convolutional twin
trained in the same way, and the whole PKKD step (teacher and student, without the measurements of
every 50th step); the whole step under XLA too, where stock operations serve. They take turns, so
that a busy machine is busy for each of them; a time is the fastest of the turns. Memory is the
resident peak of a first step, XLA's compilation included, above what was resident before it, each
step in processes of its own, the larger of two. Writes `cpu.json` and `cpu.md` (the table
it prints) into the output folder.
"""

import argparse
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import pkkd_tf
from benchmarks import measure
from benchmarks.report import describe, write_record
from pkkd_tf.ops import compiled


class Step(NamedTuple):
    """What is trained, and how."""

    method: str
    kind: str  # of the student
    path: str
    recompute: bool = False
    xla: bool = False


TWIN = "convolutional twin"
STEPS = {
    TWIN: Step("plain", "convolution", "auto"),
    "plain adder student, compiled": Step("plain", "adder", "compiled"),
    "plain adder student, compiled, recomputed": Step("plain", "adder", "compiled", True),
    "plain adder student, reference": Step("plain", "adder", "reference"),
    "PKKD, compiled": Step("pkkd", "adder", "compiled"),
    "PKKD, compiled, recomputed": Step("pkkd", "adder", "compiled", True),
    "convolutional twin, XLA": Step("plain", "convolution", "auto", xla=True),
    "plain adder student, reference, XLA": Step("plain", "adder", "reference", xla=True),
    "PKKD, reference, XLA": Step("pkkd", "adder", "reference", xla=True),
}
REPETITIONS = 2


def peaks(network: str, batch: int, names: list[str]) -> dict[str, list[int]]:
    """Bytes a first step of each kind takes at its peak."""
    measured: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(REPETITIONS):
        for name, values in measured.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                values.append(pool.apply(_peak, (network, batch, name)))
    return measured


def _peak(network: str, batch: int, name: str) -> int:
    return measure.growth(step(network, batch, STEPS[name]))


def step(network: str, batch: int, how: Step) -> Callable[[], tf.Tensor]:
    """A training step, as a function without arguments."""
    student = pkkd_tf.models.build(network, how.kind)
    teacher = pkkd_tf.models.build(network, "convolution") if how.method == "pkkd" else None
    images = tf.random.normal([batch, *student.input_shape[1:]])
    data = images, tf.random.uniform([batch], maxval=student.output_shape[-1], dtype=tf.int32)
    features: dict[str, Any] = {}
    if how.method == "pkkd":
        features = {"beta": 0.01, "matched_layers": pkkd_tf.models.block_ends(student)}
    model = pkkd_tf.PKKD(student, teacher, how.method, **features, monitor_every=0)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1, weight_decay=5e-4), recompute=how.recompute)
    graph = tf.function(lambda: model.train_step(data)["loss"], jit_compile=how.xla)
    with pkkd_tf.ops.use_path(how.path):
        graph.get_concrete_function()  # the path is chosen when it is traced
    return graph


def table(
    machine: dict[str, Any],
    seconds: dict[str, float],
    peaks: dict[str, list[int]],
    network: str,
    batch: int,
) -> str:
    """Markdown: milliseconds a step, images a second, MiB, ratios to the twin."""
    lines = [describe(machine), "", f"{network}, batch {batch}.", ""]
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
    parser.add_argument("--model", choices=sorted(pkkd_tf.models.MODELS), default="resnet20")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    skipped = "no stock operations outside of XLA"
    parser.add_argument("--skip_reference", action="store_true", help=skipped)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("training_step"))
    arguments = parser.parse_args()
    network, batch = arguments.model, arguments.batch
    stock = {n for n, how in STEPS.items() if how.path == "reference" and not how.xla}
    names = [n for n in STEPS if n not in stock or not arguments.skip_reference]
    memory = peaks(network, batch, names)
    functions = {name: step(network, batch, STEPS[name]) for name in names}
    measured = measure.fastest(functions, time.perf_counter)
    machine = measure.machine(os.cpu_count()) | {"kernels": compiled.instruction_set()}
    machine["clock"] = "wall time"
    record = {"machine": machine, "model": network, "batch": batch, **measured, "bytes": memory}
    text = table(machine, measured["seconds"], memory, network, batch)
    write_record(arguments.output, "cpu", record, text)


if __name__ == "__main__":
    main()
