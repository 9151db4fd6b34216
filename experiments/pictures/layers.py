"""What the distillation did in each matched layer over time."""

import os
from typing import TYPE_CHECKING

import numpy as np

from experiments.pictures import style
from experiments.pictures.columns import read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITIES = {
    "similarity": ("Kernel similarity", "correlation"),
    "share_ce": ("Gradient share, labels", "share of the gradient"),
    "share_kd": ("Gradient share, distillation", "share of the gradient"),
    "share_feature": ("Gradient share, features", "share of the gradient"),
    "filter_rms": ("Size of the filters", "root mean square"),
    "exponent": ("Exponent of the kernel", "RMS before clipping"),
    "effective_rank": ("Rank of the features", "effective rank"),
}
# Zeros throughout mean there that the layer is not matched, so that nothing was measured.
OF_MATCHED_LAYERS = ("similarity", "exponent", "effective_rank")
MOST_IN_LEGEND = 8
LOG_SPREAD = 20


def layer_curves(layers_csv_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draws one panel a quantity with one line a layer, coloured from the input to the output.

    The kernel similarity comes first. Time is the epoch, or the training step where a layer was
    measured more than once in an epoch. Positive quantities that differ by more than a factor of
    20 are drawn on a logarithmic axis. A quantity that is zero throughout gets no panel; a layer
    whose similarity, exponent or effective rank is zero throughout gets no line there.

    Args:
        layers_csv_path: a row a layer and time: layer, epoch and/or step, and any of similarity,
            share_ce, share_kd, share_feature, filter_rms, exponent, effective_rank.
        png_path: the picture.

    Raises:
        ValueError: no row, no layer, no time, no quantity other than zero, or a cell that is no
            number.

    Example:
        >>> layer_curves("runs/digits/layers.csv", "runs/digits/layer_curves.png")
    """
    columns = read_columns(layers_csv_path, texts=("layer",))
    quantities = [name for name in QUANTITIES if name in columns and np.any(columns[name])]
    if "layer" not in columns or not quantities or not {"epoch", "step"} & set(columns):
        raise ValueError(
            "The file must have `layer`, `epoch` or `step`, and one of "
            f"{', '.join(QUANTITIES)}. "
            f"Received: path={os.fspath(layers_csv_path)!r}, columns={list(columns)}"
        )
    layers = np.array(columns["layer"])
    time = _time(columns, layers)
    names = list(dict.fromkeys(columns["layer"]))
    with style.picture(
        png_path, len(quantities), min(4, _columns(len(quantities))), (3.4, 2.7)
    ) as panels:
        colors = _colors(len(names))
        for panel, quantity in zip(panels, quantities, strict=True):
            for name, color in zip(names, colors, strict=True):
                rows = (layers == name) & np.isfinite(columns[quantity])
                if quantity not in OF_MATCHED_LAYERS or columns[quantity][rows].any():
                    _line(panel, columns[time][rows], columns[quantity][rows], color)
            _finish(panel, quantity, time, columns[quantity])
        _key(panels, names, colors)


def _columns(panels: int) -> int:
    return panels if panels < 4 else -(-panels // 2)


def _time(columns: dict, layers: np.ndarray) -> str:
    """`epoch` if that tells a layer's rows apart, or else `step`."""
    if "step" not in columns or "epoch" not in columns:
        return "epoch" if "epoch" in columns else "step"
    steps = set(zip(layers, columns["step"], strict=True))
    return "epoch" if len(set(zip(layers, columns["epoch"], strict=True))) == len(steps) else "step"


def _colors(count: int) -> list:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.92 * index / max(count - 1, 1)) for index in range(count)]


def _line(axes: "Axes", time: np.ndarray, values: np.ndarray, color: tuple) -> None:
    points = sorted(dict(zip(time, values, strict=True)).items())
    axes.plot(
        [point[0] for point in points],
        [point[1] for point in points],
        color=color,
        linewidth=1.2,
        marker=style.marker(len(points)),
        markersize=2.5,
    )


def _finish(axes: "Axes", quantity: str, time: str, values: np.ndarray) -> None:
    title, label = QUANTITIES[quantity]
    axes.set(title=title, ylabel=label, xlabel="training step")
    if time == "epoch":
        style.whole_epochs(axes)
    style.log_if_spread(axes, values, LOG_SPREAD)


def _key(panels: list["Axes"], names: list[str], colors: list) -> None:
    """A legend of few layers, a colour bar of many."""
    figure = panels[0].figure
    if len(names) <= MOST_IN_LEGEND:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=color, label=n) for n, color in zip(names, colors)]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(names)
    norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
    colors = ScalarMappable(norm, ListedColormap(colors))
    bar = figure.colorbar(colors, ax=panels, location="bottom", aspect=60, shrink=0.6)
    bar.set_ticks([0, count - 1], labels=[names[0], names[-1]], fontsize=8)
    bar.set_label("layer, from the input to the output")
    bar.ax.minorticks_off()
