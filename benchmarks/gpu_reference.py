"""Some results of the adder passes by their formulas in float64, one at a time."""

from typing import Any

import numpy as np

COUNT = 64


def sample(
    name: str,
    sizes: Any,
    x: np.ndarray,
    filters: np.ndarray,
    gradient: np.ndarray,
    rng: np.random.Generator,
) -> dict[tuple[int, ...], float]:
    """Index and value of `COUNT` random elements of a pass, for one group of channels.

    Args:
        name: `"forward"` or `"input gradient"` (clipped).
        sizes: the fields of AdderShape.
        x: images.
        filters: filters.
        gradient: of the response.
        rng: chooses the elements.
    """
    shape = gradient.shape if name == "forward" else x.shape
    one = _response if name == "forward" else _input_gradient
    indices = [tuple(int(rng.integers(size)) for size in shape) for _ in range(COUNT)]
    return {index: one(sizes, x, filters, gradient, index) for index in indices}


def _response(sizes, x, filters, gradient, index) -> float:
    (sh, sw, dh, dw, top, left), (n, p, q, o) = sizes[8:14], index
    total = 0.0
    for i in range(filters.shape[0]):
        for j in range(filters.shape[1]):
            h, w = p * sh - top + i * dh, q * sw - left + j * dw
            inside = 0 <= h < x.shape[1] and 0 <= w < x.shape[2]
            pixel = x[n, h, w].astype(np.float64) if inside else 0.0
            total += np.abs(pixel - filters[i, j, :, o].astype(np.float64)).sum()
    return -float(total)


def _input_gradient(sizes, x, filters, gradient, index) -> float:
    (sh, sw, dh, dw, top, left), (n, h, w, c) = sizes[8:14], index
    total = 0.0
    for i in range(filters.shape[0]):
        for j in range(filters.shape[1]):
            p, p_rest = divmod(h + top - i * dh, sh)
            q, q_rest = divmod(w + left - j * dw, sw)
            inside = 0 <= p < gradient.shape[1] and 0 <= q < gradient.shape[2]
            if p_rest or q_rest or not inside:
                continue
            z = filters[i, j, c].astype(np.float64) - float(x[index])
            total += (np.clip(z, -1, 1) * gradient[n, p, q].astype(np.float64)).sum()
    return float(total)
