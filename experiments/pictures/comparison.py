"""The accuracy of several networks over the same epochs."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.pictures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ZOOM_EPOCHS = 10


def comparison(runs: Mapping[str, Sequence[float]], png_path: str | os.PathLike) -> None:
    """Draws one line a network: the whole training, and its second half enlarged.

    Colours tell the role, from the name: a teacher or CNN, a plain adder network, a PKKD adder
    network; no two lines look alike. Each legend entry ends with the accuracy after the last epoch.

    Args:
        runs: name -> test accuracy after epoch 1, 2, ..., fractions 0..1; NaN where not measured.
        png_path: the picture.

    Raises:
        ValueError: no run, or a run without a finite value or with more than one dimension.

    Example:
        >>> comparison({"teacher": [0.5, 0.98], "PKKD ANN": [0.3, 0.98]}, "comparison.png")
    """
    curves = {name: 100 * np.asarray(values, float) for name, values in runs.items()}
    if not curves or not all(v.ndim == 1 and np.isfinite(v).any() for v in curves.values()):
        raise ValueError(
            "Each run must have a flat list of accuracies with a finite value, and there must be "
            f"a run. Received: runs={dict(runs)}"
        )
    longest = max(map(len, curves.values()))
    with style.picture(png_path, 2 if longest >= ZOOM_EPOCHS else 1, 2, (4.6, 3.9)) as panels:
        for panel in panels:
            _draw(panel, curves)
        panels[0].set_title("Whole training")
        for panel in panels[1:]:
            _zoom(panel, curves, longest)
        panels[0].figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(1 + len(panels), len(curves)),
        )


def _draw(axes: "Axes", curves: Mapping[str, np.ndarray]) -> None:
    for (name, values), (color, line) in zip(curves.items(), style.role_lines(curves)):
        final = values[np.isfinite(values)][-1]
        axes.plot(
            np.arange(1, len(values) + 1),
            values,
            color=color,
            linestyle=line,
            label=f"{name} ({final:.2f} %)",
            marker=style.marker(len(values)),
            markersize=3,
        )
    axes.set_ylabel("test accuracy, %")
    style.whole_epochs(axes)


def _zoom(axes: "Axes", curves: Mapping[str, np.ndarray], longest: int) -> None:
    start = longest // 2
    late = np.concatenate([values[start:] for values in curves.values()])
    late = late[np.isfinite(late)]
    axes.set_title("Second half")
    axes.set_xlim(start + 1, longest)
    if len(late):
        # A few lagging epochs must not squeeze the lines together again.
        low, high = np.quantile(late, 0.02), late.max()
        margin = max(0.06 * (high - low), 0.1)
        axes.set_ylim(low - margin, min(high + margin, 100.2))
