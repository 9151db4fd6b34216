"""report.json and report.md, written together."""

import json
import os
from collections.abc import Mapping
from typing import Any

from experiments import atomic
from experiments.report.markdown import render
from experiments.report.plain import plain, relative

LINKS = ("pictures", "files")


def write(folder: str | os.PathLike, report: Mapping[str, Any]) -> None:
    """Writes `folder`/report.json (sorted, indented) and `folder`/report.md (tables, pictures).

    Either both are replaced or, on any error, the old ones stay. NaN and infinities are written
    to the JSON as the texts "NaN", "Infinity", "-Infinity".

    Args:
        folder: the run's folder, created if it is missing.
        report: the run's facts; every key may be absent, unknown ones go into the JSON only.
            program, command, model, method: text. flags, environment: dictionaries.
            dataset: name, num_train, num_test, num_classes, image_shape.
            accuracies: network -> {final, best, best_epoch}, fractions 0..1, printed in %.
            counts: network -> {parameters, multiplications, additions}, of one image.
            times: total_seconds, seconds_per_epoch, images_per_second.
            filters: what `pictures.filter_histograms` returns.
            runs: list of {name, accuracy, seconds}. notes: list of sentences.
            pictures, files: lists of paths, written relative to `folder`.

    Raises:
        TypeError, ValueError: a value that JSON or the tables cannot hold.
        OSError: the folder cannot be written.

    Example:
        >>> write("runs/digits", {"program": "digits", "accuracies": {"student": {"final": 0.98}}})
    """
    facts = plain(report)
    for key in LINKS:
        if facts.get(key):
            facts[key] = [relative(path, folder) for path in facts[key]]
    text = json.dumps(facts, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    files = {"report.json": text + "\n", "report.md": render(facts)}
    atomic.write_files(folder, {name: text.encode("utf-8") for name, text in files.items()})
