"""Fewer bits for a trained adder network: calibration, then fine-tuning with rounded numbers.

    python -m experiments.quantize --model=runs/r20/student.keras --dataset=cifar10 --data_dir=DIR \
        --bits=4 --scale_groups=4 --teacher=runs/r20/student.keras --output=runs/r20_4bit

Writes quantized.keras, report.json and report.md into OUTPUT and prints the accuracy after every
step: as it was, rounded, with batch normalization re-estimated, fine-tuned. With --teacher the
network also learns from that one's logits; the float network itself serves. --epochs=0 stops before
fine-tuning. First convolution and classifier keep 8 bits.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import keras
from absl import flags as absl_flags

import pkkd_tf
from experiments import errors, evaluate, fine_tuning, flags, networks, report, results
from experiments.errors import RunError
from experiments.folders import check_writable
from pkkd_tf import quantization

NEEDS = (
    flags.Need(("alpha", "temperature"), "--teacher", lambda options: options["teacher"]),
    flags.Need(
        ("teacher", "train_ranges", "learning_rate"),
        "--epochs of at least 1",
        lambda options: options["epochs"],
    ),
)
WRITTEN = ("quantized.keras", "report.json", "report.md")
STEPS = ("float", "quantized", "batch norm re-estimated", "fine-tuned")


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Quantizes and fine-tunes one network as `options` (the flags by name) say.

    Args:
        options: values of this program's flags.

    Returns:
        What report.json holds: `runs`, the steps with their accuracies, `flags`, `ranges`, ...

    Raises:
        RunError, ValueError, OSError: with a message for the user.
    """
    folder = Path(options["output"])
    _check_folder(folder)
    keras.utils.set_random_seed(options["seed"])
    network, teacher, data = _load(options)
    steps = _Steps(data, options["batch_size"])
    quantized = _quantized(network, data, options)
    # Before anything is measured: it refuses a teacher that does not fit.
    training = fine_tuning.make_training(quantized, teacher, options)
    steps.measure(STEPS[0], network)
    steps.measure(STEPS[1], quantized)
    quantization.reestimate_batch_norm(quantized, fine_tuning.augmented(data, options))
    steps.measure(STEPS[2], quantized)
    if options["epochs"]:
        fine_tuning.fit(training, data, options)
        steps.measure(STEPS[3], quantized)
    with errors.stating("All results must be written to --output."):
        return _write(folder, quantized, data, steps.rows, options)


class _Steps:
    """Accuracy after every step, printed and kept."""

    def __init__(self, data: Any, batch_size: int):
        self.rows: list[dict[str, Any]] = []
        self._data, self._batch_size, self._began = data, batch_size, time.monotonic()

    def measure(self, step: str, model: keras.Model) -> None:
        found = evaluate.accuracy(model, self._data, self._batch_size)
        seconds = time.monotonic() - self._began
        self.rows.append({"name": step, "accuracy": found, "seconds": seconds})
        print(f"{step:24s} {100 * found:6.2f} % of {self._data.num_test:,} images", flush=True)


def _load(options: dict[str, Any]) -> tuple[keras.Model, keras.Model | None, Any]:
    """The network, its teacher if there is one, and the data."""
    network = networks.load(options["model"], "--model")
    teacher = networks.load(options["teacher"], "--teacher") if options["teacher"] else None
    data = _data(network, options)
    networks.check_fits(network, data, "--model")
    if options["epochs"]:
        data.steps_per_epoch(options["batch_size"])  # refuses a batch that is too large
    return network, teacher, data


def _quantized(network: keras.Model, data: Any, options: dict[str, Any]) -> keras.Model:
    sample = data.sample(min(options["calibration_images"], data.num_train))
    grouped = options["bits"], options["scale_groups"], options["train_ranges"]
    quantized = quantization.quantize_model(network, sample, *grouped)
    quantized.jit_compile = False  # as `networks.load` has it
    return quantized


def _check_folder(folder: Path) -> None:
    """Before hours of training, whose results could not be written, or over another run's."""
    taken = [name for name in WRITTEN if (folder / name).exists()]
    if taken:
        raise RunError(
            f"--output must hold none of the files that are written. Received: output={folder}, "
            f"which holds {', '.join(taken)}"
        )
    check_writable(folder)


def _write(
    folder: Path, model: keras.Model, data: Any, steps: list, options: dict[str, Any]
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    results.save_network(model, folder / "quantized.keras")
    names = "name", "num_train", "num_test", "num_classes", "image_shape"
    summary = {
        "program": "quantize",
        "command": "python -m experiments.quantize " + shlex.join(sys.argv[1:]),
        "flags": options,
        "environment": report.environment(),
        "dataset": {name: getattr(data, name) for name in names},
        "runs": steps,
        "ranges": quantization.ranges(model),
        "tensor_ranges": quantization.tensor_ranges(model),
        "files": ["quantized.keras"],
    }
    report.write(folder, summary)
    print(f"report: {folder / 'report.md'}")
    return summary


def _data(network: keras.Model, options: dict[str, Any]) -> Any:
    return pkkd_tf.data.load(
        options["dataset"],
        data_dir=options["data_dir"],
        image_size=networks.image_size(network, options["dataset"], options["image_size"]),
        seed=options["seed"],
        augmentation=options["augmentation"],
        limit_train=options["limit_train"],
    )


def main() -> None:
    """Runs what the flags ask for."""
    options = flags.values()
    flags.check_effect(options, NEEDS)
    run(options)


def define() -> None:
    """Defines this program's flags."""
    flag = absl_flags
    flag.DEFINE_string("model", None, "A trained network, student.keras.", required=True)
    flag.DEFINE_string("teacher", None, "A network to learn from; None: from labels alone.")
    flag.DEFINE_string("output", None, "Folder for what is written.", required=True)
    flag.DEFINE_enum("dataset", "cifar10", evaluate.DATASETS, "What the network was trained on.")
    flag.DEFINE_string("data_dir", None, "Folder of the data set.")
    flag.DEFINE_integer(
        "image_size", None, "Pixels; imagenet only; None: the network's.", lower_bound=8
    )
    flag.DEFINE_enum("augmentation", "standard", ("standard", "none"), "In fine-tuning.")
    flag.DEFINE_integer("limit_train", None, "Use that many training images.", lower_bound=2)
    flag.DEFINE_integer("bits", 8, "Of inputs and filters of the adder layers.", 2, 8)
    flag.DEFINE_integer("scale_groups", 1, "Most groups of filters in a layer.", lower_bound=1)
    flag.DEFINE_bool("train_ranges", False, "Fine-tuning changes the ranges too.")
    flag.DEFINE_integer("calibration_images", 128, "For the ranges.", lower_bound=1)
    flag.DEFINE_integer("norm_images", 2048, "For batch normalization.", lower_bound=2)
    flag.DEFINE_integer("epochs", 1, "Of fine-tuning; 0: none.", lower_bound=0)
    flag.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
    flag.DEFINE_float("learning_rate", 0.01, "At the start; falls to 0 by a cosine.", 0.0)
    flag.DEFINE_float("alpha", 1.0, "Weight of the teacher's logits.", 0.0)
    flag.DEFINE_float("temperature", 1.0, "Of the softmax in that part.", 1e-6)
    flag.DEFINE_integer("seed", 0, "Of sample, order and augmentation.", 0, flags.MOST_SEED)
    flag.DEFINE_integer("verbose", 2, "0 silent, 1 progress bar, 2 a line an epoch.", 0, 2)


if __name__ == "__main__":
    define()
    errors.run(main)
