"""One style for every picture: size, colours that colour-blind readers tell apart, saving."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
# Okabe and Ito's palette, by what is drawn.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, ORANGE, BLACK, GREY = "#CC79A7", "#56B4E9", "#E69F00", "#222222", "#888888"
STUDENT, TEACHER, PLAIN = BLUE, VERMILLION, GREEN
OTHERS = (PURPLE, SKY, ORANGE, BLACK)
LINES = ("-", "--", ":", "-.")
MARKED_POINTS = 12
LOG_SPREAD = 5

SETTINGS = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def picture(
    png_path: str | os.PathLike, panels: int, columns: int, size: tuple[float, float]
) -> Iterator[list["Axes"]]:
    """Gives the panels of a new figure and, if drawing succeeds, writes them as a PNG.

    The figure belongs to no pyplot state and the style is in force only inside.

    Args:
        png_path: the file; replaced only once the new picture is complete.
        panels: how many axes are given; the rest of the grid stays empty.
        columns: the most panels in one row.
        size: width and height of one panel, inches.
    """
    with figure(panels, columns, size) as (drawn, axes):
        yield axes
        _save(drawn, Path(png_path))


@contextmanager
def figure(
    panels: int, columns: int, size: tuple[float, float]
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Gives a new figure and its panels; arguments and style of `picture`."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(columns, panels)
    rows = -(-panels // columns)
    defaults = {key: v for key, v in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context({**defaults, **SETTINGS}):
        figure = Figure((columns * size[0], rows * size[1]), dpi=DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03)
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for spare in axes[panels:]:
            spare.remove()
        yield figure, axes[:panels]


def _save(figure: "Figure", path: Path) -> None:
    atomic.write_files(path.parent, {path.name: png(figure)})


def png(figure: "Figure") -> bytes:
    """Draws a figure as a PNG; call it while the style is in force."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def legend_below(axes: "Axes", columns: int = 2, drop: float = 0.17) -> None:
    """Puts the legend under the x label, where it hides nothing."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -drop),
        ncols=columns,
        fontsize=8,
        handlelength=2.2,
        columnspacing=1.2,
    )


def log_if_spread(axes: "Axes", values: np.ndarray, spread: float = LOG_SPREAD) -> None:
    """Makes the y axis logarithmic if `values` are positive and differ by more than `spread`."""
    values = values[np.isfinite(values)]
    if values.min() <= 0 or values.max() <= spread * values.min():
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    few_decades = values.max() < 1000 * values.min()
    axes.yaxis.set_minor_formatter(_minor_label if few_decades else "")


def _minor_label(value: float, position: int) -> str:
    """Labels 2 and 5 of each decade: few decades have too few powers of ten to read from."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def whole_epochs(axes: "Axes") -> None:
    """Labels the x axis with whole epochs only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")


def marker(points: int) -> str | None:
    """A dot at each value of a short line: one epoch alone would draw nothing."""
    return "o" if points <= MARKED_POINTS else None


def role_lines(names: Iterable[str]) -> list[tuple[str, str]]:
    """A colour and a line style for each network, no two alike of up to 28.

    The colour is that of the role that a name tells, for the first of it, else one by its place.
    """
    colors: list[str] = []
    for index, name in enumerate(names):
        others = [*OTHERS[index % len(OTHERS) :], *OTHERS, STUDENT, TEACHER, PLAIN]
        wanted = [role for role in (_role(name),) if role] + others
        colors.append(min(wanted, key=colors.count))
    return [(color, LINES[colors[:i].count(color) % len(LINES)]) for i, color in enumerate(colors)]


def _role(name: str) -> str | None:
    lowered = name.lower()
    if "teacher" in lowered or "cnn" in lowered or "convolution" in lowered:
        return TEACHER
    if "plain" in lowered:
        return PLAIN
    return STUDENT if "pkkd" in lowered or "student" in lowered else None
