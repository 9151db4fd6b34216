"""The sections of the report."""

import os
from typing import Any

import numpy as np

from experiments.report import tables as form
from export.demo import commands, verdict
from export.demo.document import Code, Picture, Section, Table, Text
from export.demo.measuring import THREADS, Figures, FileFigures, Setting
from export.energy import HOROWITZ
from export.energy.estimate import MEMORY_MODEL
from export.energy.tflite_records import TFLITE_MEMORY_MODEL
from export.latency import ratios

STARTING = (
    "Times are taken around the interpreter's call from Python, which adds half a microsecond to "
    "one: it weighs on files that take a few."
)


def verdicts(figures: Figures) -> Section:
    """The sentences that judge, without a heading."""
    return "", [Text(verdict.latency(figures)), Text(verdict.energy(figures))]


def files(figures: Figures, png: bytes) -> Section:
    """Sizes and accuracies, with their picture."""
    header = ["file", "bytes", "test accuracy", "same class as in Keras", "least time, us"]
    rows = [_file_row(name, file) for name, file in figures.files.items()]
    own = {role: form.percent(value) for role, value in figures.keras_accuracy.items()}
    text = (
        f"Of {figures.num_test:,} test images. In Keras the student (ANN) has {own['student']}, "
        f"the teacher (CNN) {own['teacher']}."
    )
    return "Files", [Table(header, rows), Text(text), Picture("files.png", "The files", png)]


def _file_row(name: str, file: FileFigures) -> list[str]:
    shares = [form.percent(file.accuracy), form.percent(file.agreement)]
    return [name, f"{file.bytes:,}", *shares, _us(file.timing.runs.min())]


def latency(setting: Setting, figures: Figures) -> Section:
    """Times of one image."""
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


def energy(figures: Figures, png: bytes) -> Section:
    """Operations and energy of one image, with their picture."""
    header = ["file", "multiplications", "additions", "operations, uJ", "with memory, uJ"]
    header += ["CNN / this, operations", "CNN / this, with memory"]
    rows = [_energy_row(figures, name, file) for name, file in figures.files.items()]
    text = (
        f"One image, computed by the constants of {HOROWITZ.source}; an adder term is two "
        "additions, a multiply-accumulate one multiplication and one addition. Sums of int8 count "
        "as int8 additions, as in papers of adder networks; hardware accumulates wider, which "
        f"narrows the ratio. Memory: {MEMORY_MODEL} {TFLITE_MEMORY_MODEL}"
    )
    caption = "Energy of an image, the ANN with the custom operator and its teacher"
    picture = Picture("energy.png", caption, png)
    return "Energy, computed", [Table(header, rows), Text(text), picture]


def _energy_row(figures: Figures, name: str, file: FileFigures) -> list[str]:
    total, rival = file.energy.total, file.exported.variant.rival
    counts = [total.record.multiplications, total.record.additions]
    energies = [f"{total.compute:.4g}", f"{total.with_memory:.4g}"]
    compared = ["-", "-"]
    if rival is not None:
        compared = [verdict.times(r) for r in verdict.energy_ratios(figures.files[rival], file)]
    return [name, *(f"{count:,}" for count in counts), *energies, *compared]


def repeat(output: str | os.PathLike, setting: Setting) -> Section:
    """The commands."""
    return "To repeat it", [Code(commands.text(output, setting))]


def environment(facts: dict[str, Any], figures: Figures) -> Section:
    """Machine, versions and load."""
    rows = {
        **{form.words(key): value for key, value in facts.items() if key != "versions"},
        "threads": THREADS,
        "load average": f"{figures.load:.2f}",
        **facts["versions"],
    }
    table = Table(["", ""], [[key, str(value)] for key, value in rows.items()], numbers=False)
    return "Where, when and with what", [table]


def _us(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
