"""report.md, report.html and figures.json."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report import environment
from experiments.report import tables as form
from export.demo import commands, pictures, verdict
from export.demo.document import Code, Picture, Section, Table, Text, markdown, page
from export.demo.measuring import THREADS, Figures, FileFigures, Setting
from export.energy import HOROWITZ
from export.energy import picture as energy_picture
from export.energy.estimate import MEMORY_MODEL
from export.energy.tflite_records import TFLITE_MEMORY_MODEL
from export.latency import ratios
from export.program import ExportError
from export.tflite import interpreters
from export.writing import write_files

REPORTS = ("report.md", "report.html")
FIGURES = "figures.json"
STARTING = (
    "Times are taken around the interpreter's call from Python, which adds half a microsecond to "
    "one: it weighs on files that take a few."
)


def check_free(output: str | os.PathLike) -> None:
    """Refuses a folder whose report is of something else.

    Raises:
        ExportError: there is a report, but not one of this program.
    """
    folder = Path(output)
    if not (folder / FIGURES).exists() and any((folder / name).exists() for name in REPORTS):
        raise ExportError(
            "--output must be a new folder or one of an earlier report of this program; here lies "
            f"another report. Received: output='{output}'"
        )


def write_report(output: str | os.PathLike, setting: Setting, figures: Figures) -> list[str]:
    """Writes the report in every form.

    Args:
        output: folder.
        setting: what was measured.
        figures: the figures.

    Returns:
        Lines for the terminal: the table of files, and the sentences that judge.
    """
    folder = Path(output)
    pictures.draw_files(figures, folder / "files.png")
    facts = _facts()
    title = f"An adder network and its teacher as .tflite files, {setting.dataset}"
    files = (folder / "files.png").read_bytes()
    energy = energy_picture.bars(_panels(figures))
    sections = [
        ("", [Text(verdict.latency(figures)), Text(verdict.energy(figures))]),
        _files(figures, files),
        _latency(setting, figures),
        _energy(figures, energy),
        _repeat(output, setting),
        ("Where, when and with what", [_environment(facts, figures)]),
    ]
    contents = {
        "energy.png": energy,
        "report.md": markdown(title, sections).encode(),
        "report.html": page(title, sections).encode(),
        FIGURES: _as_json(setting, figures, facts),
    }
    write_files(folder, contents)
    lines = markdown(title, [_files(figures, files)]).split("\n\n")[2]
    return [lines, verdict.latency(figures), verdict.energy(figures)]


def _files(figures: Figures, png: bytes) -> Section:
    header = ["file", "bytes", "test accuracy", "same class as in Keras", "least time, us"]
    rows = [
        [
            name,
            f"{file.bytes:,}",
            form.percent(file.accuracy),
            form.percent(file.agreement),
            _us(file.timing.runs.min()),
        ]
        for name, file in figures.files.items()
    ]
    own = {role: form.percent(value) for role, value in figures.keras_accuracy.items()}
    text = (
        f"Of {figures.num_test:,} test images. In Keras the student (ANN) has {own['student']}, "
        f"the teacher (CNN) {own['teacher']}."
    )
    return "Files", [Table(header, rows), Text(text), Picture("files.png", "The files", png)]


def _latency(setting: Setting, figures: Figures) -> Section:
    header = ["file", "least, us", "median, us", "p95, us", "first, us", "ratio to CNN, least"]
    header += ["ratio to CNN, median"]
    rows = [_latency_row(figures, name, file) for name, file in figures.files.items()]
    text = (
        f"One image, {THREADS} thread, {setting.num_runs:,} runs of every file, all files in turns "
        "in one process; the ratio is to the CNN in the same numbers. The least time is what a "
        f"busy machine disturbs least. {STARTING}"
    )
    return "Latency", [Table(header, rows), Text(text)]


def _latency_row(figures: Figures, name: str, file: FileFigures) -> list[str]:
    timing, runs = file.timing, file.timing.runs
    rival = file.exported.variant.rival
    compared = ["-", "-"]
    if rival is not None:
        median, least = ratios(timing, figures.files[rival].timing)
        compared = [verdict.times(least), verdict.times(median)]
    times = (runs.min(), float(np.median(runs)), float(np.percentile(runs, 95)), timing.first)
    return [name, *map(_us, times), *compared]


def _energy(figures: Figures, png: bytes) -> Section:
    header = ["file", "multiplications", "additions", "operations, uJ", "with memory, uJ"]
    header += ["CNN / this, operations", "CNN / this, with memory"]
    rows = []
    for name, file in figures.files.items():
        total, rival = file.energy.total, file.exported.variant.rival
        counts = [total.record.multiplications, total.record.additions]
        compared = ["-", "-"]
        if rival is not None:
            compared = [
                verdict.times(ratio) for ratio in verdict.energy_ratios(figures.files[rival], file)
            ]
        energies = [f"{total.compute:.4g}", f"{total.with_memory:.4g}"]
        rows.append([name, *(f"{count:,}" for count in counts), *energies, *compared])
    text = (
        f"One image, computed by the constants of {HOROWITZ.source}; an adder term is two "
        "additions, a multiply-accumulate one multiplication and one addition. Sums of int8 count "
        "as int8 additions, as in papers of adder networks; hardware accumulates wider, which "
        f"narrows the ratio. Memory: {MEMORY_MODEL} {TFLITE_MEMORY_MODEL}"
    )
    caption = "Energy of an image, the ANN with the custom operator and its teacher"
    return "Energy, computed", [
        Table(header, rows),
        Text(text),
        Picture("energy.png", caption, png),
    ]


def _panels(figures: Figures) -> dict[str, Any]:
    """The networks of the picture: each in float32 and int8."""
    named = {"CNN teacher": ("CNN float32", "CNN int8")}
    named["ANN student"] = ("ANN float32, custom_op", "ANN int8")
    return {name: [figures.files[f].energy for f in files] for name, files in named.items()}


def _repeat(output: str | os.PathLike, setting: Setting) -> Section:
    return "To repeat it", [Code(commands.text(output, setting))]


def _facts() -> dict[str, Any]:
    """Machine and versions; what computes adders in TensorFlow does not matter here."""
    facts = environment()
    versions = {**facts["versions"], "TFLite interpreter": _interpreter()}
    kept = ("cpu", "logical_cores", "system", "date", "git_commit", "git_modified")
    return {"versions": versions, **{key: facts[key] for key in kept}}


def _interpreter() -> str:
    """The interpreter that ran the files, and its version."""
    if interpreters.interpreter_module().__name__.startswith("ai_edge_litert"):
        return f"LiteRT {version('ai-edge-litert')}"
    return f"TensorFlow {version('tensorflow')}"


def _environment(facts: dict[str, Any], figures: Figures) -> Table:
    rows = {
        **{form.words(key): value for key, value in facts.items() if key != "versions"},
        "threads": THREADS,
        "load average": f"{figures.load:.2f}",
        **facts["versions"],
    }
    return Table(["", ""], [[key, str(value)] for key, value in rows.items()], numbers=False)


def _as_json(setting: Setting, figures: Figures, facts: dict[str, Any]) -> bytes:
    document = {
        "setting": vars(setting),
        "environment": {**facts, "threads": THREADS, "load_average": figures.load},
        "num_test": figures.num_test,
        "keras_accuracy": figures.keras_accuracy,
        "files": {name: _file_as_json(file) for name, file in figures.files.items()},
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _file_as_json(file: FileFigures) -> dict[str, Any]:
    runs, total = file.timing.runs, file.energy.total
    return {
        "file": file.exported.path.name,
        "bytes": file.bytes,
        "accuracy": file.accuracy,
        "agreement": file.agreement,
        "export": file.exported.report,
        "microseconds": {
            "init": file.timing.init,
            "first": file.timing.first,
            "min": float(runs.min()),
            "median": float(np.median(runs)),
            "average": float(runs.mean()),
            "p95": float(np.percentile(runs, 95)),
        },
        "peak_memory_megabytes": file.timing.memory,
        "multiplications": total.record.multiplications,
        "additions": total.record.additions,
        "microjoules_operations": total.compute,
        "microjoules_with_memory": total.with_memory,
    }


def _us(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
