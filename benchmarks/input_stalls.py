"""What share of its time a training waits for its next batch, its input slower or faster.

    python -m benchmarks.input_stalls --data_dir DIR --output results/input_pipeline
    python -m benchmarks.input_stalls --step_ms 401 --batch 256        a known device

A loop takes a batch, then is busy for a step, and so on; waiting is the time inside of `next`.
Two consumers. A device: a sleep as long as its step, which leaves all cores to the input as an
accelerator does; steps are chosen so that the device asks for a share (--loads) of what the input
yields when nothing is done with it, measured right before, or are given (--step_ms). The processor:
real training steps of ResNet-18 with adders on this machine, whose cores they share with the input.
Photos as in `benchmarks.input_pipeline`. The first --warmup steps are not counted: TensorFlow finds
the number of its threads in them. The last column is processor time of all other programs: where
it is not near 0, waiting is theirs too.

Writes `stalls.json` and `stalls.md` (the table it prints) into the output folder.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import pkkd_tf
from benchmarks import input_pipeline, measure, report

SOURCES = ("class folders, JPEG", "array_record, JPEG", "TFRecord, JPEG")


def profile(data: Any, batch: int, step: Callable, warmup: int, steps: int) -> dict[str, Any]:
    """Takes `steps` batches after `warmup`, each followed by `step(images, labels)`.

    Returns:
        dict with `share` (time inside of `next` over all time), `p50`, `p95`, `max` (of the waits,
        seconds), `rate` (images a second) and `others` (cores that other programs used).
    """
    batches = iter(data.train(batch, epochs=1_000_000))
    for _ in range(warmup):
        step(*next(batches))
    waits, busy, own = [], _busy(), time.process_time()
    start = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        images = next(batches)
        waits.append(time.perf_counter() - asked)
        step(*images)
    whole = time.perf_counter() - start
    others = _busy() - busy - (time.process_time() - own)
    p50, p95, longest = (float(q) for q in np.quantile(waits, (0.5, 0.95, 1.0)))
    return {
        "share": sum(waits) / whole,
        **{"p50": p50, "p95": p95, "max": longest},
        "rate": steps * batch / whole,
        "others": max(0.0, others / whole),
    }


def _busy() -> float:
    """Seconds that all cores together have computed since the machine started (Linux)."""
    user, nice, system, _, _, irq, softirq = map(
        int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def device(seconds: float) -> Callable:
    """A step of an accelerator, which takes `seconds` and no core."""
    return lambda images, labels: time.sleep(seconds)


def processor(data: Any) -> Callable:
    """A training step of ResNet-18 with adders on this machine."""
    student = pkkd_tf.models.build("resnet18", "adder", data.num_classes, data.image_shape)
    model = pkkd_tf.PKKD(student, None, "plain", monitor_every=0)
    model.compile(pkkd_tf.optimizers.AdderSGD(0.1, weight_decay=1e-4))
    step = tf.function(lambda *batch: model.train_step(batch)["loss"])
    return lambda *batch: step(*batch).numpy()


def measure_source(data: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one source: the input alone, devices, the processor."""
    batch, counts = arguments.batch, (arguments.warmup, arguments.steps)
    alone = profile(data, batch, device(0), *counts)
    seconds = [ms / 1e3 for ms in arguments.step_ms or ()] or [
        batch / alone["rate"] / load for load in arguments.loads
    ]
    rows = [{"consumer": "none", "step": 0.0, **alone}]
    for one in seconds:
        measured = profile(data, batch, device(one), *counts)
        rows.append({"consumer": "device", "step": one, **measured})
    if arguments.processor_steps:
        measured = profile(data, batch, processor(data), 2, arguments.processor_steps)
        step = batch / measured["rate"] * (1 - measured["share"])
        rows.append({"consumer": "processor, ResNet-18", "step": step, **measured})
    return rows


def table(record: dict[str, Any]) -> str:
    """Markdown: what share of the time is waiting, and for how long a step waits."""
    machine, batch = record["machine"], record["batch"]
    lines = [
        f"{machine['device']}, {machine['threads']} threads, wall time, TensorFlow "
        f"{machine['tensorflow']}, {machine['date']}.",
        f"Batches of {batch}, {record['image_size']} pixels, {record['kilobytes']:.0f} KB a JPEG; "
        f"{record['steps']} steps after {record['warmup']}.",
        "",
        "| source | consumer | step, ms | asks for, images/s | gets, images/s | waits, % | "
        "p50, ms | p95, ms | max, ms | other programs, cores |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        asked = f"{batch / row['step']:.0f}" if row["step"] else "all"
        waits = " | ".join(f"{row[key] * 1e3:.1f}" for key in ("p50", "p95", "max"))
        lines.append(
            f"| {row['source']} | {row['consumer']} | {row['step'] * 1e3:.0f} | {asked} | "
            f"{row['rate']:.0f} | {row['share'] * 100:.1f} | {waits} | {row['others']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=pathlib.Path, help="train/CLASS/*.jpg, val/CLASS/*.jpg")
    parser.add_argument("--image_size", type=int, default=224, help="pixels of a training image")
    parser.add_argument("--images", type=int, default=2000, help="at most, of the record files")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument(
        "--loads", type=float, nargs="*", default=(0.5, 0.8, 0.9), help="of a device"
    )
    parser.add_argument("--step_ms", type=float, nargs="*", help="of a device, instead of --loads")
    parser.add_argument("--steps", type=int, default=100, help="that are measured")
    parser.add_argument("--warmup", type=int, default=50, help="steps before")
    parser.add_argument("--processor_steps", type=int, default=5, help="of ResNet-18; 0: none")
    parser.add_argument("--sources", nargs="*", default=SOURCES, choices=SOURCES)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("input_pipeline"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        forms, kilobytes = input_pipeline.prepare(pathlib.Path(name), arguments)
        rows = []
        for source in arguments.sources:
            kind, folder, options = forms[source]
            data = pkkd_tf.data.load(kind, folder, **options)
            rows += [{"source": source, **row} for row in measure_source(data, arguments)]
    shown = {key: getattr(arguments, key) for key in ("batch", "image_size", "steps", "warmup")}
    machine = measure.machine(os.cpu_count())
    record = {"machine": machine, "kilobytes": kilobytes, **shown, "rows": rows}
    report.write_record(arguments.output, "stalls", record, table(record))


if __name__ == "__main__":
    main()
