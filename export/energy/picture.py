"""Bars of the energies, the networks side by side."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from export.energy.estimate import LayerEnergy, NetworkEnergy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers tell apart.
COLORS = ("#D55E00", "#0072B2")
SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
GROUPS = ("compute only", "with memory")
WIDTH = 0.36


def bars(networks: Mapping[str, Sequence[NetworkEnergy]]) -> bytes:
    """Draws a panel a number format: compute-only and with-memory bars of every network.

    Args:
        networks: name -> the network in every number format; one or two networks.

    Returns:
        The PNG.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(zip(*networks.values(), strict=True))
    defaults: dict[Any, Any] = {
        key: v for key, v in matplotlib.rcParamsDefault.items() if key != "backend"
    }
    with matplotlib.rc_context({**defaults, **SETTINGS}):
        figure = Figure((4.2 * len(panels), 3.9), dpi=150, layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, energies in zip(all_axes, panels, strict=True):
            _panel(axes, list(networks), energies)
        figure.legend(*_legend(list(networks)), loc="outside lower center", ncols=3, fontsize=8)
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


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
    if len(energies) == 2:
        first, second = (energy.total for energy in energies)
        _ratio(axes, 0, first.compute, second.compute)
        _ratio(axes, 1, first.with_memory, second.with_memory)


def _bar(axes: "Axes", x: float, total: LayerEnergy, color: str, memory: bool) -> None:
    axes.bar(x, total.compute, WIDTH, color=color)
    height = total.with_memory if memory else total.compute
    if memory:
        style: dict[str, Any] = {"color": "white", "edgecolor": color, "hatch": "////"}
        axes.bar(x, total.memory, WIDTH, bottom=total.compute, **style)
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
