"""Laplace and Gaussian distributions fitted to weights by maximum likelihood."""

import math
from typing import Any

import numpy as np


def fit(weights: np.ndarray) -> dict[str, Any]:
    """Returns both fits of a sample and says which is more likely.

    Laplace: loc = median, scale b = mean |w - loc|, log likelihood a weight -ln(2 b) - 1.
    Gaussian: mean, std = sqrt(mean (w - mean)^2), log likelihood a weight
    -ln(2 pi std^2) / 2 - 1/2.

    Args:
        weights: an array of finite values that are not all equal.

    Returns:
        dict: weights (their number), loc, scale, mean, std, laplace_log_likelihood,
        gaussian_log_likelihood (nats a weight), better (`"laplace"` or `"gaussian"`).

    Raises:
        ValueError: fewer than two different values, or a value that is not finite.

    Example:
        >>> fit(np.random.default_rng(0).laplace(0, 1, 10_000))["better"]
        'laplace'
    """
    weights = np.asarray(weights, np.float64).ravel()
    finite = np.isfinite(weights)
    if not finite.all() or weights.size < 2 or weights.min() == weights.max():
        raise ValueError(
            "A distribution can be fitted only to finite weights that are not all equal. "
            f"Received: {weights.size} weights, {np.count_nonzero(~finite)} of them not finite, "
            f"{np.unique(weights[finite]).size} different finite values"
        )
    loc, mean, std = np.median(weights), weights.mean(), weights.std()
    scale = np.abs(weights - loc).mean()
    laplace = -math.log(2 * scale) - 1
    gaussian = -0.5 * math.log(2 * math.pi * std**2) - 0.5
    return {
        "weights": weights.size,
        "loc": float(loc),
        "scale": float(scale),
        "mean": float(mean),
        "std": float(std),
        "laplace_log_likelihood": laplace,
        "gaussian_log_likelihood": gaussian,
        "better": "laplace" if laplace > gaussian else "gaussian",
    }


def fit_layers(layers: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the fit of all layers' weights together, and what the layers are by themselves.

    Gaussian layers of different width put together look like a Laplace distribution. So
    `standardized` fits (w - mean) / std of each layer, `layers` each layer as it is, and
    `laplace_layers` of `num_layers` says how many of these are nearer to Laplace.

    Raises:
        ValueError: as in `fit`, naming the layer.
    """
    own = {name: _named_fit(name, weights) for name, weights in layers.items()}
    together = fit(np.concatenate([weights.ravel() for weights in layers.values()]))
    return {
        **together,
        "num_layers": len(own),
        "standardized": fit(standardized(layers)),
        "laplace_layers": sum(one["better"] == "laplace" for one in own.values()),
        "layers": own,
    }


def standardized(layers: dict[str, np.ndarray]) -> np.ndarray:
    """Returns all weights, each layer's with mean 0 and standard deviation 1."""
    return np.concatenate([((w - w.mean()) / w.std()).ravel() for w in layers.values()])


def _named_fit(name: str, weights: np.ndarray) -> dict[str, Any]:
    try:
        return fit(weights)
    except ValueError as error:
        raise ValueError(f"{error} in layer={name!r}") from None


def densities(fitted: dict[str, Any], x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the fitted densities at `x`: `laplace` and `gaussian`."""
    scale, std = fitted["scale"], fitted["std"]
    return {
        "laplace": np.exp(-np.abs(x - fitted["loc"]) / scale) / (2 * scale),
        "gaussian": np.exp(-0.5 * ((x - fitted["mean"]) / std) ** 2)
        / (std * math.sqrt(2 * math.pi)),
    }
