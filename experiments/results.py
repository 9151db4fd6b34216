"""What a finished run leaves: the networks, the report and the pictures."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import keras

from experiments import pictures, report
from experiments.atomic import naming
from experiments.errors import stating
from experiments.history import Table
from pkkd_tf.analysis import count_operations
from pkkd_tf.distillation import PKKD

RULE = "All results must be written; the state is saved, --resume writes what is missing."


@stating(RULE)
def write(
    folder: Path,
    program: str,
    options: dict[str, Any],
    data: Any,
    model: PKKD,
    history: Table,
) -> dict[str, Any]:
    """Writes networks, pictures, report.json and report.md into `folder`; returns the report.

    Raises:
        RunError: disk full or not writable.
    """
    networks = {"student": model.student}
    if model.teacher is not None:
        networks["teacher"] = model.teacher
    files = [folder / f"{name}.keras" for name in networks]
    for network, file in zip(networks.values(), files):
        save_network(network, file)
    drawn, fits, left_out = draw(folder, networks)
    summary = {
        "program": program,
        "command": f"python -m experiments.{program} " + shlex.join(sys.argv[1:]),
        "flags": options,
        "environment": report.environment(bool(options["jit_compile"])),
        "model": options["model"],
        "method": options["method"],
        "dataset": _dataset(data),
        "accuracies": _accuracies(history, networks),
        "counts": {name: _counts(network) for name, network in networks.items()},
        "times": _times(history),
        "filters": fits,
        "files": [path.name for path in (*files, *sorted(folder.glob("*.csv")))],
        "pictures": drawn,
        "notes": _notes(data) + left_out,
    }
    report.write(folder, summary)
    return summary


def save_network(network: keras.Model, path: Path) -> None:
    """Saves `network` whole or not at all."""
    partial = path.with_name(f"partial_{path.name}")
    try:
        with naming(path):
            network.save(partial)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def draw(folder: Path, networks: dict[str, keras.Model]) -> tuple[list[str], Any, list[str]]:
    """Draws all there is data for; returns the pictures' names, the filters' fits and notes."""
    pictures.learning_curves(folder / "history.csv", folder / "learning_curves.png")
    student, teacher = networks["student"], networks.get("teacher")
    notes = []
    if teacher is not None and (missing := pictures.without_twin(student, teacher)):
        teacher = None
        notes.append(
            f"The teacher's filters were not drawn: it has no layers named {', '.join(missing)}."
        )
    fits = pictures.filter_histograms(student, teacher, folder / "filters.png")
    names = ["learning_curves.png", "filters.png"]
    if Table(folder / "layers.csv", sys.maxsize).rows:
        pictures.layer_curves(folder / "layers.csv", folder / "layers.png")
        names.append("layers.png")
    return names, fits, notes


def _dataset(data: Any) -> dict[str, Any]:
    names = "name", "num_train", "num_test", "num_classes", "image_shape"
    return {name: getattr(data, name) for name in names}


def _accuracies(history: Table, networks: dict[str, Any]) -> dict[str, Any]:
    columns = {"student": "val_accuracy", "teacher": "val_teacher_accuracy"}
    return {name: _accuracy(history.column(columns[name])) for name in networks}


def _accuracy(values: list[float]) -> dict[str, Any]:
    best = max(range(len(values)), key=values.__getitem__)
    return {"final": values[-1], "best": values[best], "best_epoch": best + 1}


def _counts(network: keras.Model) -> dict[str, int]:
    operations = count_operations(network)
    return {
        "parameters": network.count_params(),
        "multiplications": sum(o.multiplications for o in operations),
        "additions": sum(o.additions for o in operations),
    }


def _times(history: Table) -> dict[str, float]:
    """Of all epochs, those before a restart too; of one that was cut in two, the second part."""
    each = history.column("seconds")
    rates = history.column("images_per_second")
    return {
        "total_seconds": sum(each),
        "seconds_per_epoch": sum(each) / len(each),
        "images_per_second": sum(rates) / len(rates),
    }


def _notes(data: Any) -> list[str]:
    broken = data.num_broken
    return [f"{broken} broken images were skipped."] if broken else []
