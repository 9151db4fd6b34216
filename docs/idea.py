"""Draws the figure of the idea: `python docs/idea.py [PNG]` writes docs/idea.png.

Above, one window of a convolution and of an adder layer with the numbers worked out; below, how
teacher and student are trained together and what is deployed.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#222222", "#666666"
X = np.array([[2, 0, 1], [1, 3, 0], [0, 1, 2]])
F = np.array([[1, 0, -1], [2, 1, 0], [-1, 1, 1]])
# pJ an operation at 45 nm, int8 (Horowitz, ISSCC 2014).
MULTIPLY, ADD = 0.2, 0.03
CELL = 4.2
MIDDLE = 56.5
COLUMNS = (19, 37, 55)
LOGITS = 73


class Response(NamedTuple):
    """What differs between the two halves of the upper picture."""

    title: str
    formula: str
    color: str
    operator: str
    taps: np.ndarray
    tap_name: str
    sign: int
    multiplications: int
    additions: int


CONVOLUTION = Response(
    "Convolution: multiply, add",
    r"$y = \sum\, x \cdot f$",
    ORANGE,
    "×",
    X * F,
    r"$x \cdot f$",
    1,
    X.size,
    X.size,
)
ADDER = Response(
    "Adder: subtract, drop the sign, add",
    r"$y = -\sum\, |x - f|$",
    BLUE,
    "−",
    np.abs(X - F),
    r"$|x - f|$",
    -1,
    0,
    2 * X.size,
)


def main(path: str) -> None:
    """Draws everything and writes the PNG."""
    figure = Figure((12, 7.4), dpi=130, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 120), ylim=(0, 74))
    axes.set_axis_off()
    draw_response(axes, 1.5, CONVOLUTION)
    draw_response(axes, 61.5, ADDER)
    draw_training(axes)
    draw_deployment(axes)
    note = "* arithmetic alone at 45 nm (Horowitz, ISSCC 2014); memory is not counted"
    write(axes, 1.5, 1.6, note, size=8, color=GREY, ha="left")
    figure.savefig(path)


def draw_response(axes: Axes, left: float, response: Response) -> None:
    """One window of a layer: input, filter, taps, sum and what they cost."""
    color = response.color
    panel(axes, left, 44, 57, 28.5)
    write(axes, left + 2, 69.2, response.title, 12.5, color, ha="left", weight="bold")
    write(axes, left + 55, 69.2, response.formula, 14, ha="right")
    draw_matrix(axes, left + 2, X, GREEN, "window $x$")
    write(axes, left + 16.6, MIDDLE, response.operator, 16)
    draw_matrix(axes, left + 18.6, F, GREY, "filter $f$")
    write(axes, left + 33.2, MIDDLE, "=", 16)
    draw_matrix(axes, left + 35.2, response.taps, color, response.tap_name)
    arrow(axes, (left + 48.4, MIDDLE), (left + 51.4, MIDDLE), INK)
    total = response.sign * response.taps.sum()
    write(axes, left + 53.6, MIDDLE + 3.2, "Σ" if response.sign > 0 else "−Σ", 12)
    write(axes, left + 53.6, MIDDLE, number(total), 14, color, weight="bold")
    draw_cost(axes, left, response.multiplications, response.additions)


def draw_cost(axes: Axes, left: float, multiplications: int, additions: int) -> None:
    """The operations of the window and their energy."""
    energy = multiplications * MULTIPLY + additions * ADD
    count = f"{multiplications} multiplications, {additions} additions"
    write(axes, left + 2, 46.2, count, 10.5, ha="left", weight="bold")
    write(axes, left + 55, 46.2, f"{energy:.2f} pJ in int8*", 10.5, ha="right", weight="bold")


def draw_matrix(axes: Axes, left: float, values: np.ndarray, color: str, name: str) -> None:
    """A small matrix, darker where its values are larger, with its name above."""
    top = MIDDLE + 1.5 * CELL
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column * CELL, top - (row + 1) * CELL
        shade = 0.10 + 0.20 * min(abs(value), 3)
        axes.add_patch(Rectangle((x, y), CELL, CELL, facecolor=color, alpha=shade, lw=0))
        axes.add_patch(Rectangle((x, y), CELL, CELL, fill=False, edgecolor="white", lw=1.5))
        write(axes, x + CELL / 2, y + CELL / 2, number(value), 11)
    write(axes, left + 1.5 * CELL, top + 1.9, name, 10)


def draw_training(axes: Axes) -> None:
    """Teacher and student, the matched kernels between their layers, the labels for both."""
    panel(axes, 1.5, 4, 86, 38)
    write(axes, 3.5, 39.4, "Training (PKKD)", 12.5, ha="left", weight="bold")
    hint = "both from scratch, side by side; kernels and logits train the student only"
    write(axes, 86, 39.4, hint, 9, GREY, ha="right")
    draw_network(axes, 30.5, ORANGE, "convolution", "teacher", images=27)
    draw_network(axes, 6.5, BLUE, "adder", "student", images=19)
    box(axes, 3.5, 19, 9, 8, "images", INK)
    for x in COLUMNS:
        draw_match(axes, x + 6)
    draw_targets(axes)


def draw_network(axes: Axes, y: float, color: str, layer: str, name: str, images: float) -> None:
    """A row of layers from the images to the logits."""
    arrow(axes, (8, images), (8, y + 3), color, head=False)
    for start, end in zip((8, *(x + 12 for x in COLUMNS)), (*COLUMNS, LOGITS), strict=True):
        arrow(axes, (start, y + 3), (end, y + 3), color)
    for x in COLUMNS:
        box(axes, x, y, 12, 6, layer, color, fill=color, ink="white")
    box(axes, LOGITS, y, 9, 6, "logits", color)
    write(axes, 13.2, y + 4.8, name, 10, color, weight="bold")


def draw_match(axes: Axes, x: float) -> None:
    """Kernel on the teacher's layer, kernel and 1x1 convolution on the student's, matched."""
    axes.plot([x, x], [18.4, 24.6], color=GREEN, lw=2, zorder=1)
    arrow(axes, (x, 30.5), (x, 28), ORANGE)
    arrow(axes, (x, 12.5), (x, 15), BLUE)
    box(axes, x - 5, 24.6, 10, 3.4, "kernel", ORANGE, size=9)
    box(axes, x - 3.4, 20, 6.8, 3, "match", GREEN, size=9, ink=GREEN)
    box(axes, x - 5, 15, 10, 3.4, "kernel, 1×1", BLUE, size=9)


def draw_targets(axes: Axes) -> None:
    """The teacher's logits teach the student, the labels both."""
    arrow(axes, (LOGITS + 2.2, 30.5), (LOGITS + 2.2, 12.5), ORANGE)
    write(axes, LOGITS + 1, 21.5, "distillation", 9, rotation=90)
    arrow(axes, (LOGITS + 6.8, 24), (LOGITS + 6.8, 30.5), INK)
    arrow(axes, (LOGITS + 6.8, 19), (LOGITS + 6.8, 12.5), INK)
    box(axes, LOGITS + 5.4, 19, 7.2, 5, "labels", INK)


def draw_deployment(axes: Axes) -> None:
    """The student alone."""
    panel(axes, 92, 4, 26.5, 38)
    write(axes, 94, 39.4, "Deployment", 12.5, ha="left", weight="bold")
    write(axes, 105.2, 32, "teacher, kernels and\n1×1 convolutions\nstay behind", 10, GREY)
    arrow(axes, (82, 9.5), (95.5, 9.5), BLUE)
    arrow(axes, (105.2, 12.5), (105.2, 18), BLUE)
    box(axes, 95.5, 6.5, 19.5, 6, "adder network", BLUE, fill=BLUE, ink="white")
    box(axes, 95.5, 18, 19.5, 6, "SavedModel, TFLite", BLUE)


def panel(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """The light background of a part."""
    box(axes, x, y, width, height, "", "#DDDDDD", fill="#FAFAFA")


def box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    edge: str,
    fill: str = "white",
    ink: str = INK,
    size: float = 10,
) -> None:
    """A rounded box with centred text."""
    style = "round,pad=0,rounding_size=0.9"
    look = {"facecolor": fill, "edgecolor": edge, "linewidth": 1.4}
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **look))
    write(axes, x + width / 2, y + height / 2, text, size, ink)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    head: bool = True,
) -> None:
    """A straight arrow, or a line without its head."""
    look = {"color": color, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>" if head else "-", **look))


def write(
    axes: Axes, x: float, y: float, text: str, size: float = 10, color: str = INK, **look: Any
) -> None:
    """Text, centred unless told otherwise."""
    axes.text(x, y, text, fontsize=size, color=color, va="center", **{"ha": "center", **look})


def number(value: int) -> str:
    """A whole number with a real minus sign."""
    return f"{value:d}".replace("-", "−")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).with_suffix(".png")))
