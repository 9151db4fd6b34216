"""report.md: the same facts as report.json, for reading."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from experiments.report import tables

ACCURACY_COLUMNS = {"final": "final", "best": "best", "best_epoch": "best epoch"}
COUNT_COLUMNS = {
    "parameters": "parameters",
    "multiplications": "multiplications",
    "additions": "additions",
}
TIME_ROWS = {
    "total_seconds": ("training, total", tables.seconds),
    "seconds_per_epoch": ("an epoch", tables.seconds),
    "images_per_second": ("images a second", tables.figure),
}
DATASET_ROWS = {
    "name": "name",
    "num_train": "training images",
    "num_test": "test images",
    "num_classes": "classes",
    "image_shape": "image (height, width, channels)",
}
FIT_ROWS = {
    "weights": "weights",
    "loc": "Laplace, location",
    "scale": "Laplace, scale",
    "mean": "Gaussian, mean",
    "std": "Gaussian, standard deviation",
    "laplace_log_likelihood": "Laplace, log likelihood a weight",
    "gaussian_log_likelihood": "Gaussian, log likelihood a weight",
    "better": "fits better",
    "standardized_better": "fits better when each layer is divided by its standard deviation",
    "num_layers": "layers",
    "laplace_layers": "layers that are by themselves nearer to Laplace",
}


def render(report: Mapping[str, Any]) -> str:
    """Returns the Markdown text of a report whose values are JSON's own types.

    Args:
        report: as in `report.write`, with pictures and files as relative links.
    """
    parts = [f"# {_title(report)}"]
    for key, (heading, section) in SECTIONS.items():
        if report.get(key):
            parts.append((f"## {heading}\n\n" if heading else "") + section(report[key]))
    return "\n\n".join(parts) + "\n"


def _title(report: Mapping[str, Any]) -> str:
    dataset = report.get("dataset") or {}
    names = [report.get("program"), report.get("model"), report.get("method"), dataset.get("name")]
    return ", ".join(dict.fromkeys(str(name) for name in names if name)) or "Report"


def _notes(notes: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(str(note).split())}" for note in notes)


def _command(command: str | Sequence[str]) -> str:
    return f"```sh\n{command if isinstance(command, str) else ' '.join(command)}\n```"


def _accuracies(networks: Mapping[str, Mapping[str, Any]]) -> str:
    def show(key: str, value: Any) -> str:
        return tables.figure(value) if key.endswith("epoch") else tables.percent(value)

    return tables.grid(networks, ACCURACY_COLUMNS, show)


def _counts(networks: Mapping[str, Mapping[str, Any]]) -> str:
    text = tables.grid(networks, COUNT_COLUMNS, lambda key, value: tables.count(value))
    return f"{text}\n\nOperations of one image; an adder operation counts as two additions."


def _times(times: Mapping[str, Any]) -> str:
    rows = {}
    for key, value in times.items():
        name, show = TIME_ROWS.get(key, (tables.words(key), tables.figure))
        rows[name] = show(value)
    return tables.pairs(rows)


def _dataset(dataset: Mapping[str, Any]) -> str:
    return tables.pairs(
        {
            DATASET_ROWS.get(key, tables.words(key)): (
                " x ".join(map(str, value)) if isinstance(value, list) else value
            )
            for key, value in dataset.items()
        }
    )


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(run.get("name", tables.MISSING)),
            tables.percent(run.get("accuracy")),
            tables.seconds(run.get("seconds")),
        ]
        for run in runs
    ]
    return tables.table(["network", "test accuracy", "training time"], rows)


def _filters(fits: Mapping[str, Mapping[str, Any]]) -> str:
    fits = {
        name: {**fit, "standardized_better": (fit.get("standardized") or {}).get("better")}
        for name, fit in fits.items()
    }
    rows = [
        [title, *(tables.figure(fit.get(key)) for fit in fits.values())]
        for key, title in FIT_ROWS.items()
        if any(key in fit for fit in fits.values())
    ]
    text = tables.table(["", *fits], rows)
    return f"{text}\n\nFits by maximum likelihood over all these weights together."


def _pictures(paths: Sequence[str]) -> str:
    return "\n\n".join(f"![{_caption(path)}]({_link(path)})" for path in paths)


def _files(paths: Sequence[str]) -> str:
    return "\n".join(f"- [{path}]({_link(path)})" for path in paths)


def _caption(path: str) -> str:
    return tables.words(PurePosixPath(path).stem).capitalize()


def _link(path: str) -> str:
    return quote(path, safe="/.-_~")


def _flags(flags: Mapping[str, Any]) -> str:
    return tables.pairs({f"`--{name}`": f"`{value}`" for name, value in sorted(flags.items())})


def _environment(environment: Mapping[str, Any]) -> str:
    rows: dict[str, Any] = {}
    for key, value in environment.items():
        if isinstance(value, Mapping):
            rows.update({tables.words(name): item for name, item in value.items()})
        elif isinstance(value, list):
            rows[tables.words(key)] = ", ".join(map(str, value))
        else:
            rows[tables.words(key)] = tables.MISSING if value is None else value
    return tables.pairs(rows)


SECTIONS = {
    "notes": ("", _notes),
    "command": ("", _command),
    "accuracies": ("Test accuracy", _accuracies),
    "runs": ("Networks", _runs),
    "counts": ("Operations", _counts),
    "times": ("Time", _times),
    "dataset": ("Data", _dataset),
    "pictures": ("Pictures", _pictures),
    "filters": ("Filters", _filters),
    "flags": ("Flags", _flags),
    "environment": ("Environment", _environment),
    "files": ("Files", _files),
}
