"""The figures as JSON."""

import json
from typing import Any

import numpy as np

from export.demo.measuring import THREADS, Figures, FileFigures, Setting
from export.latency import Timing


def as_json(setting: Setting, figures: Figures, facts: dict[str, Any]) -> bytes:
    """Everything in one document.

    Args:
        setting: what was measured.
        figures: the figures.
        facts: of `export.demo.facts.collect`.

    Returns:
        UTF-8 JSON.
    """
    document = {
        "setting": vars(setting),
        "environment": {**facts, "threads": THREADS, "load_average": figures.load},
        "num_test": figures.num_test,
        "keras_accuracy": figures.keras_accuracy,
        "files": {name: _file(file) for name, file in figures.files.items()},
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _file(file: FileFigures) -> dict[str, Any]:
    total = file.energy.total
    return {
        "file": file.exported.path.name,
        "bytes": file.bytes,
        "accuracy": file.accuracy,
        "agreement": file.agreement,
        "export": file.exported.report,
        "microseconds": _times(file.timing),
        "peak_memory_megabytes": file.timing.memory,
        "multiplications": total.record.multiplications,
        "additions": total.record.additions,
        "microjoules_operations": total.compute,
        "microjoules_with_memory": total.with_memory,
    }


def _times(timing: Timing) -> dict[str, Any]:
    runs = timing.runs
    return {
        "init": timing.init,
        "first": timing.first,
        "min": float(runs.min()),
        "median": float(np.median(runs)),
        "average": float(runs.mean()),
        "p95": float(np.percentile(runs, 95)),
    }
