"""The pictures of the report."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.pictures import style
from export.demo.measuring import Figures, FileFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_files(figures: Figures, png_path: str | os.PathLike) -> None:
    """Draws size, accuracy and latency of every file, a row each.

    Args:
        figures: what was measured.
        png_path: the picture.
    """
    with style.picture(png_path, 3, 3, (3.6, 3.0)) as panels:
        _sizes(panels[0], figures.files)
        panels[0].set_title("File size, kB")
        _accuracies(panels[1], figures)
        panels[1].set_title(f"Accuracy, % of {figures.num_test:,} images")
        _latencies(panels[2], figures.files)
        panels[2].set_title("Latency, us, least of the runs")
        for panel in panels[1:]:
            panel.tick_params(labelleft=False)


def _sizes(axes: "Axes", files: Mapping[str, FileFigures]) -> None:
    kilobytes = [file.bytes / 1e3 for file in files.values()]
    axes.barh(range(len(files)), kilobytes, 0.6, color=_colors(files))
    axes.set_xlim(0, 1.25 * max(kilobytes))
    _label(axes, kilobytes, [f"{size:,.0f}" for size in kilobytes])
    _rows(axes, files)


def _latencies(axes: "Axes", files: Mapping[str, FileFigures]) -> None:
    """Points, for a logarithmic axis has no 0 that bars could begin at."""
    least = [float(file.timing.runs.min()) for file in files.values()]
    axes.scatter(least, range(len(files)), 22, color=_colors(files), zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(0.6 * min(least), 4 * max(least))
    axes.xaxis.set_major_formatter("{x:,g}")
    _label(axes, least, [f"{time:,.3g}" if time < 1000 else f"{time:,.0f}" for time in least])
    _rows(axes, files)


def _label(axes: "Axes", values: Sequence[float], texts: Sequence[str]) -> None:
    for row, (value, text) in enumerate(zip(values, texts, strict=True)):
        axes.annotate(text, (value, row), (7, 0), textcoords="offset points", va="center")


def _accuracies(axes: "Axes", figures: Figures) -> None:
    """Points, for an axis that need not begin at 0; a ring is the network's own accuracy."""
    files = figures.files
    percents = [100 * file.accuracy for file in files.values()]
    own = [100 * figures.keras_accuracy[f.exported.variant.role] for f in files.values()]
    axes.scatter(own, range(len(files)), 70, facecolor="none", edgecolor=style.GREY, zorder=2)
    axes.scatter(percents, range(len(files)), 22, color=_colors(files), zorder=3)
    low, high = min([*percents, *own]), max([*percents, *own])
    margin = max(0.5 * (high - low), 0.5)
    axes.set_xlim(low - margin, high + 1.5 * margin)
    _label(axes, list(map(max, percents, own)), [f"{percent:.2f}" for percent in percents])
    axes.set_xlabel("ring: the network in Keras", fontsize=8)
    _rows(axes, files)


def _rows(axes: "Axes", files: Mapping[str, FileFigures]) -> None:
    axes.set_yticks(range(len(files)), list(files))
    axes.set_ylim(len(files) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _colors(files: Mapping[str, FileFigures]) -> list[str]:
    roles = {"student": style.STUDENT, "teacher": style.TEACHER}
    return [roles[file.exported.variant.role] for file in files.values()]
