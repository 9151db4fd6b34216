"""A run's accuracy, losses and learning rate over its epochs."""

import os
from typing import TYPE_CHECKING

import numpy as np

from experiments.pictures import style
from experiments.pictures.columns import read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING = {"linewidth": 1.1, "linestyle": (0, (3, 1.5))}
LOSS_NAMES = {
    "loss": ("total", style.BLACK),
    "ce_loss": ("labels", style.BLUE),
    "kd_loss": ("distillation", style.GREEN),
    "feature_loss": ("features", style.PURPLE),
    "teacher_loss": ("teacher", style.VERMILLION),
}
TEST_LOSSES = ("val_ce_loss", "val_teacher_loss")


def learning_curves(history_csv_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draws accuracy, losses and learning rate, each where the run has them.

    Columns ending in `accuracy` are fractions 0..1 and drawn in %. A prefix `val_` means the test
    images, `teacher_` the teacher. Losses are drawn where they are positive, on a logarithmic axis
    if they differ much: the student's total and its parts, the teacher's, and on test images those
    of the labels. Of an epoch that was trained again after a restart the last row counts.

    Args:
        history_csv_path: a header and one row an epoch; without `epoch`, rows count from 1.
        png_path: the picture.

    Raises:
        ValueError: no row, a cell that is no number, or no column to draw.

    Example:
        >>> learning_curves("runs/digits/history.csv", "runs/digits/learning_curves.png")
    """
    columns = _last_rows(read_columns(history_csv_path))
    epochs = columns.pop("epoch")
    accuracies = {name: 100 * v for name, v in columns.items() if name.endswith("accuracy")}
    losses = _losses(columns)
    rates = {name: v for name, v in columns.items() if name == "learning_rate"}
    panels = [
        (draw, part)
        for draw, part in ((_accuracy, accuracies), (_loss, losses), (_rate, rates))
        if part
    ]
    if not panels:
        raise ValueError(
            "The history must have a column ending in `accuracy`, a loss or `learning_rate`. "
            f"Received: path={os.fspath(history_csv_path)!r}, columns={['epoch', *columns]}"
        )
    with style.picture(png_path, len(panels), 3, (4.6, 4.0)) as axes:
        for panel, (draw, part) in zip(axes, panels, strict=True):
            draw(panel, epochs, part)
            style.whole_epochs(panel)


def _last_rows(columns: dict) -> dict[str, np.ndarray]:
    rows = len(next(iter(columns.values()), ()))
    epochs = columns.get("epoch", np.arange(1.0, rows + 1))
    last = sorted({epoch: row for row, epoch in enumerate(epochs) if epoch == epoch}.items())
    rows = [row for _, row in last]
    return {"epoch": epochs[rows]} | {
        name: values[rows] for name, values in columns.items() if name != "epoch"
    }


def _accuracy(axes: "Axes", epochs: np.ndarray, series: dict[str, np.ndarray]) -> None:
    teacher_too = any("teacher" in name for name in series)
    for name, values in series.items():
        color = style.TEACHER if "teacher" in name else style.STUDENT
        label = _accuracy_label(name, teacher_too)
        if name.startswith("val_"):
            look, label = {}, f"{label} (best {np.nanmax(values):.2f} %)"
        else:
            look = TRAINING
        if "top" in name:
            look = look | {"alpha": 0.5}
        axes.plot(
            epochs, values, color=color, label=label, marker=style.marker(len(epochs)), ms=3, **look
        )
    axes.set(title="Accuracy", ylabel="accuracy, %")
    style.legend_below(axes, 1 if len(series) < 3 else 2)


def _accuracy_label(name: str, teacher_too: bool) -> str:
    words = name.removesuffix("accuracy").strip("_").split("_")
    images = "test" if "val" in words else "training"
    network = "teacher" if "teacher" in words else "student" if teacher_too else ""
    rest = " ".join(word for word in words if word not in ("val", "teacher", "student", ""))
    return ", ".join(part for part in (network, rest, images) if part)


def _loss(axes: "Axes", epochs: np.ndarray, series: dict[str, np.ndarray]) -> None:
    for name, values in series.items():
        label, color = LOSS_NAMES[name.removeprefix("val_")]
        test = name.startswith("val_")
        axes.plot(
            epochs,
            np.where(values > 0, values, np.nan),
            color=color,
            label=f"{label}, test" if test else label,
            linestyle=":" if test else "-",
            marker=style.marker(len(epochs)),
            ms=3,
        )
    axes.set(title="Losses", ylabel="loss")
    values = np.concatenate(list(series.values()))
    style.log_if_spread(axes, values[values > 0])
    style.legend_below(axes, 1 if len(series) < 3 else 2)


def _losses(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The losses worth a line: none that is never positive, and no total of a single part."""
    nothing = np.empty(0)
    same = np.array_equal(columns.get("loss", nothing), columns.get("ce_loss", nothing), True)
    tests = TEST_LOSSES if "val_ce_loss" in columns else ("val_loss", "val_teacher_loss")
    names = [name for name in (*LOSS_NAMES, *tests) if not (same and name == "loss")]
    return {n: columns[n] for n in names if n in columns and (columns[n] > 0).any()}


def _rate(axes: "Axes", epochs: np.ndarray, series: dict[str, np.ndarray]) -> None:
    axes.plot(
        epochs, series["learning_rate"], color=style.BLACK, marker=style.marker(len(epochs)), ms=3
    )
    axes.set(title="Learning rate", ylabel="learning rate")
    axes.set_ylim(0, 1.06 * np.nanmax(series["learning_rate"]) or 1)
