"""The table and the learning curves of what `benchmarks.reproduce` has trained.

    python -m benchmarks.results_table --results=results/cifar10

Reads runs.csv and curves/ in that folder; writes table.md, means and sample standard deviations
over seeds beside the published figures, and a picture of learning curves for each network. It shows
the filters of each network and method too, as far as runs left pictures of them in filters/.
"""

import argparse
import csv
import io
import json
import pathlib
from typing import Any

import numpy as np

from benchmarks import rows
from experiments import pictures
from experiments.atomic import write_files
from experiments.history import Table

KEYS = "dataset", "model", "method", "choice", "epochs", "batch_size"
ACCURACIES = "best", "best_epoch", "final"


def record(run: Any, folder: pathlib.Path, results: pathlib.Path) -> None:
    """Enters a finished run into runs.csv, in place of an older one of its name, and its curve.

    The filters are kept of the first seed of every network and method, without the open choices
    and further flags.

    Args:
        run: a `benchmarks.trainings.Run`.
        folder: what the run wrote.
        results: folder of runs.csv, curves and filters.
    """
    report = json.loads((folder / "report.json").read_text())
    curve = (folder / "history.csv").read_bytes()
    write_files(results / "curves", {f"{run.name}.csv": curve})
    if run.seed == 0 and not run.row.choice and not run.changed:
        picture = (folder / "filters.png").read_bytes()
        write_files(results / "filters", {f"{run.name}.png": picture})
    kept = [row for row in read(results) if row["run"] != run.name]
    write(results, sorted([*kept, _row(run, report)], key=lambda row: row["run"]))


def write(results: pathlib.Path, table: list[dict[str, Any]]) -> None:
    """Writes the rows of runs.csv."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_files(results, {"runs.csv": text.getvalue().encode()})


def _row(run: Any, report: dict[str, Any]) -> dict[str, Any]:
    environment = report["environment"]
    row = {"run": run.name, "seed": run.seed, "epochs": run.epochs, "batch_size": run.batch_size}
    row |= {name: getattr(run.row, name) for name in ("dataset", "model", "method", "choice")}
    for network in ("student", "teacher"):
        accuracy = report["accuracies"].get(network, {})
        row |= {f"{network}_{name}": accuracy.get(name, "") for name in ACCURACIES}
    return row | {
        "hours": round(report["times"]["total_seconds"] / 3600, 3),
        "device": ", ".join(d for d in environment["devices"] if "GPU" in d) or environment["cpu"],
        "tensorflow": environment["versions"]["tensorflow"],
        "commit": environment["git_commit"],
        "date": environment["date"][:10],
        "flags": " ".join([*run.row.flags(), *run.changed]),
    }


def read(results: pathlib.Path) -> list[dict[str, str]]:
    """The rows of runs.csv; none where there is no such file."""
    path = results / "runs.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def groups(runs: list[dict[str, str]]) -> dict[tuple, list[dict[str, str]]]:
    """Runs that differ in their seed alone, by `KEYS` and the flags beside those of their row.

    Those of a network lie together, the shortest first.
    """
    found: dict[tuple, list] = {}
    for run in sorted(runs, key=lambda run: (run["dataset"], run["model"], int(run["epochs"]))):
        key = *(run[key] for key in KEYS), " ".join(_further_flags(run))
        found.setdefault(key, []).append(run)
    return found


def _further_flags(run: dict[str, str]) -> list[str]:
    row = rows.Row(*(run[key] for key in ("dataset", "model", "method", "choice")))
    return [flag for flag in run["flags"].split() if flag not in row.flags()]


def table(runs: list[dict[str, str]]) -> str:
    """Markdown: a line for the runs that differ in their seed alone; accuracies in %."""
    head = "data | network | method | epochs, batch | seeds | final | best epoch | teacher, final"
    lines = [f"| {head} | published, 400 epochs | hours a run, device |", "|---" * 10 + "|"]
    for (dataset, model, method, choice, epochs, batch, more), same in groups(runs).items():
        published = None if more else rows.Row(dataset, model, method, choice).published()
        what = " ".join(part for part in (method, choice, more) if part)
        cells = [dataset, model, what, f"{epochs}, {batch}", len(same)]
        names = "student_final", "student_best", "teacher_final"
        cells += [mean([run[name] for run in same]) for name in names]
        hours = np.mean([float(run["hours"]) for run in same])
        devices = " / ".join(dict.fromkeys(run["device"] for run in same))
        cells += [published or "", f"{hours:.1f}, {devices}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def mean(values: list[str]) -> str:
    """Mean and sample standard deviation of accuracies, in %; empty without any."""
    numbers = [100 * float(value) for value in values if value]
    if not numbers:
        return ""
    spread = f" ± {np.std(numbers, ddof=1):.2f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.2f}{spread}"


def curves(results: pathlib.Path) -> list[str]:
    """Draws a picture for each network and length; returns the files' names."""
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for (dataset, model, method, choice, epochs, batch, more), same in groups(
        read(results)
    ).items():
        files = [results / "curves" / f"{run['run']}.csv" for run in same]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise SystemExit(
                "error: --results must hold the curve of every run in runs.csv. "
                f"Received: no {', '.join(missing)}"
            )
        found = [Table(file, 10**9) for file in files]
        lines = np.array([history.column("val_accuracy") for history in found])
        kind = {"cnn": "CNN", "plain": "plain ANN"}.get(method, f"{method.upper()} ANN")
        name = " ".join(part for part in (kind, choice, more) if part)
        picture = f"{dataset}_{model}_{epochs}_epochs_batch_{batch}.png"
        drawn.setdefault(picture, {})[name] = lines.mean(0)
    for picture, runs in drawn.items():
        pictures.comparison(runs, results / picture)
    return list(drawn)


def filters(results: pathlib.Path) -> str:
    """Markdown: the pictures of filters there are."""
    files = [results / "filters" / f"{run['run']}.png" for run in read(results)]
    return "".join(
        f"\n![Filters of {file.stem}: Laplace and Gaussian fitted.](filters/{file.name})\n"
        for file in files
        if file.is_file()
    )


def main() -> None:
    """Writes table.md and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("results/cifar10"))
    results = parser.parse_args().results
    if not read(results):
        raise SystemExit(f"error: --results must hold runs.csv. Received: results={results}")
    text = table(read(results))
    for name in curves(results):
        text += f"\n![Test accuracy of each method, mean over its seeds.]({name})\n"
    text += filters(results)
    write_files(results, {"table.md": text.encode()})
    print(text)


if __name__ == "__main__":
    main()
