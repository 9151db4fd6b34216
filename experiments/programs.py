"""What every program does: a run, and on demand the same student without a teacher beside it."""

import datetime
from pathlib import Path
from typing import Any

from experiments import flags, pictures, report, results, training
from experiments.errors import stating
from experiments.history import Table


def run(dataset: str, program: str, options: dict[str, Any]) -> None:
    """Runs `program` with the values of its flags; see `experiments.training.run`."""
    flags.check_effect(options)
    if options["output"] is None:
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H%M%S")
        name = f"{now}_{program}_{options['model']}_{options['method']}"
        options = {**options, "output": str(Path("runs") / name)}
    print(f"output: {options['output']}", flush=True)
    summary = training.run(dataset, program, options)
    if options["compare_plain"] and options["method"] != "plain":
        plain = _train_plain(dataset, program, options)
    if summary is None:
        return  # another worker writes and tells
    if options["compare_plain"] and options["method"] != "plain":
        with stating(results.RULE):
            _compare(options, summary, plain)
    _print_accuracies(summary)
    print(f"adder operations: {summary['environment']['adder_operations']}")
    print(f"report: {Path(options['output']) / 'report.md'}")


def _train_plain(dataset: str, program: str, options: dict[str, Any]) -> dict[str, Any] | None:
    folder = Path(options["output"]) / "plain"
    own = {
        "method": "plain",
        "teacher": None,
        "student": options["student"] if options["method"] != "cnn" else None,
        "output": str(folder),
        "resume": False,
        "requeue": True,
    }
    return training.run(dataset, program, {**options, **own})


def _compare(options: dict[str, Any], summary: dict[str, Any], plain: dict[str, Any]) -> None:
    """Adds the comparison with the plain student to the report of the run."""
    folder = Path(options["output"])
    student = "CNN" if options["method"] == "cnn" else f"{options['method'].upper()} ANN"
    rows = [
        ("teacher CNN", folder, "val_teacher_accuracy", summary),
        ("plain ANN", folder / "plain", "val_accuracy", plain),
        (student, folder, "val_accuracy", summary),
    ]
    curves = {n: Table(f / "history.csv", 10**9).column(c) for n, f, c, _ in rows}
    curves = {name: curve for name, curve in curves.items() if curve}
    pictures.comparison(curves, folder / "comparison.png")
    summary["runs"] = [
        {"name": n, "accuracy": curves[n][-1], "seconds": s["times"]["total_seconds"]}
        for n, _, _, s in rows
        if n in curves
    ]
    summary["pictures"].append("comparison.png")
    report.write(folder, summary)


def _print_accuracies(summary: dict[str, Any]) -> None:
    single = [{"name": n, "accuracy": a["final"]} for n, a in summary["accuracies"].items()]
    images = summary["dataset"]["num_test"]
    for row in summary.get("runs", single):
        print(f"{row['name']:12s} {100 * row['accuracy']:6.2f} % of {images:,} held-out images")
