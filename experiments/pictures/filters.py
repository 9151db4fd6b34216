"""How the filters of the student and of the teacher are distributed."""

import math
import os
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from experiments.pictures import style
from experiments.pictures.fits import densities, fit_layers, standardized
from pkkd_tf.layers import is_adder_filter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_BINS, MOST_BINS = 12, 122
DENSITY_STYLES = {
    "laplace": ("Laplace", {"color": style.BLACK, "linestyle": "-"}),
    "gaussian": ("Gaussian", {"color": style.BLACK, "linestyle": "--"}),
}


def filter_histograms(
    student_model: keras.Model, teacher_model: keras.Model | None, png_path: str | os.PathLike
) -> dict[str, Any]:
    """Draws the student's adder filters and the same layers' convolution filters of the teacher.

    Of a student without adder layers, a convolutional network trained alone, the filters of all
    its convolutions are drawn, the first and a 1x1 head included.

    Above all weights together; below each layer in units of its own standard deviation, without
    which Gaussian layers of different width look like a Laplace distribution, on a logarithmic
    axis, which shows the tails. Both with a Laplace and a Gaussian fitted by maximum likelihood.
    AdderNet (CVPR 2020) reports that adder filters tend to a Laplace distribution, convolution
    filters to a Gaussian.

    Args:
        student_model: a network with adder layers; layers inside nested models count.
        teacher_model: a network whose layers of the same names hold convolution filters, or None.
        png_path: the picture.

    Returns:
        dict: `student` and, with a teacher, `teacher`; each as `fits.fit_layers` returns.

    Raises:
        ValueError: a student without adder filters and convolutions; a teacher that lacks one of
            these layers; filters that are not finite or all equal.

    Example:
        >>> filter_histograms(student, teacher, "filters.png")["student"]["better"]
        'laplace'
    """
    adders = _adder_filters(student_model)
    layers = {"student": adders or _convolution_filters(student_model)}
    if teacher_model is not None:
        layers["teacher"] = _same_filters(teacher_model, list(layers["student"]))
    fits = {name: fit_layers(filters) for name, filters in layers.items()}
    with style.picture(png_path, 2 * len(fits), len(fits), (4.6, 3.6)) as panels:
        for index, name in enumerate(fits):
            kind = "adder" if adders and name == "student" else "convolution"
            _draw_column(panels[index :: len(fits)], layers[name], fits[name], name, kind)
    return fits


def without_twin(student_model: keras.Model, teacher_model: keras.Model) -> list[str]:
    """Names of the layers that `filter_histograms` draws and that the teacher has no kernel for."""
    names = _adder_filters(student_model) or _convolution_filters(student_model)
    leaves = _leaves(teacher_model)
    return [name for name in names if _kernel(leaves.get(name)) is None]


def _leaves(model: keras.Model, prefix: str = "") -> dict[str, keras.layers.Layer]:
    """Name -> layer; a layer inside a nested model is called "nested/layer"."""
    leaves = {}
    for layer in model.layers:
        nested = isinstance(layer, keras.Model)
        name = prefix + layer.name
        leaves.update(_leaves(layer, f"{name}/") if nested else {name: layer})
    return leaves


def _adder_filters(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        name: keras.ops.convert_to_numpy(weight)
        for name, layer in _leaves(model).items()
        for weight in layer.weights
        if is_adder_filter(weight)
    }


def _convolution_filters(model: keras.Model) -> dict[str, np.ndarray]:
    leaves = _leaves(model)
    kernels = {name: _kernel(layer) for name, layer in leaves.items()}
    filters = {
        name: keras.ops.convert_to_numpy(kernel)
        for name, kernel in kernels.items()
        if kernel is not None and len(kernel.shape) == 4
    }
    if not filters:
        raise ValueError(
            "The student must have a layer with adder or convolution filters. "
            f"Received: student_model={model.name!r}, layers={list(leaves)}"
        )
    return filters


def _same_filters(model: keras.Model, names: list[str]) -> dict[str, np.ndarray]:
    leaves = _leaves(model)
    kernels = {name: _kernel(leaves.get(name)) for name in names}
    missing = [name for name, kernel in kernels.items() if kernel is None]
    if missing:
        raise ValueError(
            "The teacher must have a layer with a kernel for each of the student's adder layers. "
            f"Received: teacher_model={model.name!r}, without={missing}, layers={list(leaves)}"
        )
    return {name: keras.ops.convert_to_numpy(kernel) for name, kernel in kernels.items()}


def _kernel(layer: keras.layers.Layer | None) -> Any:
    return getattr(layer, "kernel", None)


def _draw_column(
    panels: list["Axes"],
    layers: dict[str, np.ndarray],
    fitted: dict[str, Any],
    name: str,
    kind: str,
) -> None:
    color = style.STUDENT if kind == "adder" else style.TEACHER
    weights = np.concatenate([filters.ravel() for filters in layers.values()])
    _draw(panels[0], weights, fitted, color)
    _draw(panels[1], standardized(layers), fitted["standardized"], color, log=True)
    panels[0].set(xlabel="weight", ylabel="density")
    panels[0].set_title(f"{name.capitalize()}, {kind} filters ({len(weights):,} weights)")
    panels[1].set(xlabel="weight, in standard deviations of its layer", ylabel="density")
    laplace, count = fitted["laplace_layers"], fitted["num_layers"]
    panels[1].set_title(f"Layer by layer: {laplace} of {count} nearer to Laplace")


def _draw(
    axes: "Axes", weights: np.ndarray, fitted: dict[str, Any], color: str, log: bool = False
) -> None:
    low, high = np.quantile(weights, [0.0001, 0.9999])
    edges = np.linspace(low, high, min(MOST_BINS, max(FEWEST_BINS, math.isqrt(len(weights)))))
    heights = np.histogram(weights, edges)[0] / (len(weights) * np.diff(edges))
    axes.stairs(heights, edges, fill=True, color=color, alpha=0.45, label="filters")
    curves = densities(fitted, edges)
    for family, (label, look) in DENSITY_STYLES.items():
        label = f"{label} ({fitted[f'{family}_log_likelihood']:.3f} nats a weight)"
        axes.plot(edges, curves[family], label=label, linewidth=1.2, **look)
    style.legend_below(axes, 1)
    peak = max(heights.max(), curves["laplace"].max())
    if log:
        axes.set_yscale("log")
        # The axis ends at the rarest filters, not where the fits vanish.
        axes.set_ylim(heights[heights > 0].min() / 2, 2 * peak)
    else:
        axes.set_ylim(0, 1.05 * peak)
