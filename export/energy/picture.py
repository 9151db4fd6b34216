"""Bars of the energies, the networks side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.pictures import style
from export.energy.estimate import LayerEnergy, NetworkEnergy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (style.TEACHER, style.STUDENT)
SIZE = (4.2, 3.9)  # of a panel, inches
GROUPS = ("compute only", "with memory")
WIDTH = 0.36


def bars(networks: Mapping[str, Sequence[NetworkEnergy]]) -> bytes:
    """Draws a panel a number format: compute-only and with-memory bars of every network.

    Args:
        networks: name -> the network in every number format; one or two networks.

    Returns:
        The PNG.
    """
    formats = list(zip(*networks.values(), strict=True))
    with style.figure(len(formats), len(formats), SIZE) as (figure, panels):
        for axes, energies in zip(panels, formats, strict=True):
            _panel(axes, list(networks), energies)
        figure.legend(*_legend(list(networks)), loc="outside lower center", ncols=3, fontsize=8)
        return style.png(figure)


def _panel(axes: "Axes", names: list[str], energies: Sequence[NetworkEnergy]) -> None:
    colors = COLORS[-len(names) :]
    for index, energy in enumerate(energies):
        shift = (index - (len(names) - 1) / 2) * (WIDTH + 0.04)
        _bar(axes, shift, energy.total, colors[index], memory=False)
        _bar(axes, 1 + shift, energy.total, colors[index], memory=True)
    axes.set_xticks(range(len(GROUPS)), GROUPS)
    axes.set_ylabel("microjoules an image")
    axes.set_title(" / ".join(dict.fromkeys(energy.format for energy in energies)))
    axes.margins(y=0.14)
    axes.grid(axis="x", visible=False)
    if len(energies) == 2:
        first, second = (energy.total for energy in energies)
        _ratio(axes, 0, first.compute, second.compute)
        _ratio(axes, 1, first.with_memory, second.with_memory)


def _bar(axes: "Axes", x: float, total: LayerEnergy, color: str, memory: bool) -> None:
    axes.bar(x, total.compute, WIDTH, color=color)
    height = total.with_memory if memory else total.compute
    if memory:
        pattern: dict[str, Any] = {"color": "white", "edgecolor": color, "hatch": "////"}
        axes.bar(x, total.memory, WIDTH, bottom=total.compute, **pattern)
    axes.annotate(f"{height:.3g}", (x, height), (0, 2), textcoords="offset points", ha="center")


def _ratio(axes: "Axes", x: float, first: float, second: float) -> None:
    if second > 0:
        offset: dict[str, Any] = {"xytext": (0, 14), "textcoords": "offset points"}
        text = f"{first / second:.2f} x less" if first >= second else f"{second / first:.2f} x more"
        axes.annotate(text, (x, max(first, second)), ha="center", fontweight="bold", **offset)


def _legend(names: list[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    patches = [Patch(color=color) for color in COLORS[-len(names) :]]
    memory = Patch(facecolor="white", edgecolor="#555555", hatch="////")
    return [*patches, memory], [*names, "memory traffic"]
