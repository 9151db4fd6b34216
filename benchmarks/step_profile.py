"""Where the time of a training step goes: by part of the step, by kind of work, by operation.

    python -m benchmarks.step_profile --output results/step_profile

Trains on random images of CIFAR's shape as `experiments.cifar` does, once with the batches made on
the host and once on the device (`--data_placement`), times some steps, and has TensorFlow's
profiler record as many more. On a GPU the times are those of its kernels; on a processor, those of
the operations, several of which run at once; of each the fastest run counts. A step that measures
(every --monitor_every-th) is recorded by itself. `--autoclustering` is that of the programs. Writes
`cpu` or `gpu` with `.json` and `.md` (the tables it prints).
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import pkkd_tf
from benchmarks import gpu_placement, measure, report, step_parts, xplane
from benchmarks.input_pipeline import write_arrays
from experiments import devices, errors
from pkkd_tf.ops import compiled

MODELS = ("resnet20", "resnet32", "vgg_small")
METHODS = ("pkkd", "kd", "plain", "cnn")
PLACEMENTS = ("host", "device")


def make_step(arguments: argparse.Namespace, folder: pathlib.Path, placement: str) -> Any:
    """A model as the programs compile it, and the iterator over its batches."""
    data = pkkd_tf.data.load("cifar10", folder)
    gpus = tf.config.list_logical_devices("GPU")
    batches = data.on_device(gpus[0].name if gpus else "CPU:0") if placement == "device" else data
    method = arguments.method
    kind = "convolution" if method == "cnn" else "adder"
    student = pkkd_tf.models.build(arguments.model, kind, name="student")
    taught = method in ("pkkd", "kd")
    teacher = pkkd_tf.models.build(arguments.model, "convolution", name="teacher")
    model = pkkd_tf.PKKD(
        student,
        teacher if taught else None,
        "plain" if method == "cnn" else method,
        matched_layers=pkkd_tf.models.block_ends(student) if method == "pkkd" else None,
        monitor_every=arguments.monitor_every,
    )
    optimizer = pkkd_tf.optimizers.AdderSGD(0.1, weight_decay=5e-4)
    model.compile(optimizer, prepare_batch=getattr(batches, "prepare_batch", None))
    return model, iter(batches.train(arguments.batch, epochs=1_000_000))


def run(model: Any, iterator: Any, steps: int) -> list[float]:
    """Seconds of each of `steps` steps, each waited for."""
    train, seconds = model.make_train_function() or model.train_function, []
    for _ in range(steps):
        start = time.perf_counter()
        train(iterator)["loss"].numpy()
        seconds.append(time.perf_counter() - start)
    return seconds


def profile(arguments: argparse.Namespace, folder: pathlib.Path, placement: str) -> dict[str, Any]:
    """Times and tables of one placement of the batches."""
    model, iterator = make_step(arguments, folder, placement)
    run(model, iterator, 3)  # traces; the first step measures
    seconds = run(model, iterator, arguments.steps)
    _at_step(model, 1)
    record = {"placement": placement, "seconds": statistics.median(seconds)}
    record |= step_parts.tables(_recorded(model, iterator, arguments.steps), arguments.steps)
    if model.monitor.every:
        _at_step(model, 0)
        measuring = step_parts.tables(_recorded(model, iterator, 1), 1)["parts"]
        record["measuring"] = next(row for row in measuring if row["name"] == "monitor")
    if gpu_placement.has_gpu_kernels():
        step = tf.function(model.train_step).get_concrete_function(iterator.element_spec)
        found = gpu_placement.analyse(step)
        record |= {"on_host": dict(found.on_host), "to_host": found.to_host}
    return record


def _at_step(model: Any, step: int) -> None:
    """Lets the next step be number `step`: a multiple of monitor_every measures."""
    model.optimizer.iterations.assign(step)


def _recorded(model: Any, iterator: Any, steps: int) -> Any:
    with xplane.traced() as found:
        run(model, iterator, steps)
    return found[0]


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="resnet20")
    parser.add_argument("--method", choices=METHODS, default="pkkd")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=20, help="timed, and as many recorded")
    parser.add_argument("--monitor_every", type=int, default=50, help="as in the programs")
    parser.add_argument("--data_placement", choices=(*PLACEMENTS, "both"), default="both")
    parser.add_argument("--autoclustering", action="store_true", help="XLA for all else")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("step_profile"))
    return parser.parse_args()


def main() -> None:
    """Profiles what the command line asks for."""
    arguments = parsed()
    asked = arguments.data_placement
    if arguments.autoclustering:
        devices.cluster_by_xla()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_arrays(folder)
        placements = PLACEMENTS if asked == "both" else (asked,)
        profiles = [profile(arguments, folder, placement) for placement in placements]
    machine = measure.machine(os.cpu_count()) | {"kernels": compiled.instruction_set()}
    machine |= {"clock": "wall time", "load": os.getloadavg()[0]} | measure.gpu()
    settings = {k: v for k, v in vars(arguments).items() if k != "output"}
    words = " ".join(
        f"--{k}" if v is True else f"--{k} {v}" for k, v in settings.items() if v is not False
    )
    command = f"python -m benchmarks.step_profile {words}"
    record = {"machine": machine, "command": command, **settings, "profiles": profiles}
    name = "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    report.write_record(arguments.output, name, record, step_parts.markdown(record))


if __name__ == "__main__":
    raise SystemExit(errors.exit_code(main))
