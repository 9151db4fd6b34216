"""Operators of an int8 network that move integers, in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.int8.arithmetic import Activation, Scales


def _reduce_max(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    del scales
    x, axes = inputs
    return x.max(tuple(axes.reshape(-1)), keepdims=options.keepDims)


def _concatenation(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """Any activation would be an operator of its own."""
    del scales
    return np.concatenate(inputs, options.axis)


def _resize_nearest_neighbor(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """Each pixel is that in which its centre lies: `halfPixelCenters`."""
    del scales
    x, sizes = inputs
    _check_centres(options)
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(sizes, x.shape[1:3])
    )
    return x[:, rows[:, None], columns]


def _resize_bilinear(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """Means of the four nearest pixels' numbers, rounded once, half up."""
    x, sizes = inputs
    _check_centres(options)
    for axis, new in zip((1, 2), sizes):
        old = x.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        first = at.astype(int)
        share = (at - first).reshape(-1, *[1] * (3 - axis))
        pairs = (np.take(x, np.minimum(first + n, old - 1), axis) for n in (0, 1))
        x = sum(numbers * weight for numbers, weight in zip(pairs, (1 - share, share)))
    return scales.activated(np.floor(x + 0.5), Activation.NONE)


def _check_centres(options: Any) -> None:
    if options.alignCorners or not options.halfPixelCenters:
        raise ExportError(
            "Images must be resized with their pixels' centres in their places. Received: "
            f"alignCorners={options.alignCorners}, halfPixelCenters={options.halfPixelCenters}"
        )


def _pad(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    return np.pad(inputs[0], inputs[1], constant_values=scales.zeros[0])


def _strided_slice(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """A bit of a mask speaks of one place of (first, end, step)."""
    del scales
    x, places = inputs[0], []
    for number, (first, end, step) in enumerate(zip(*inputs[1:])):
        bit = 1 << number
        if options.ellipsisMask & bit:
            places.append(Ellipsis)
        elif options.newAxisMask & bit:
            places.append(np.newaxis)
        elif options.shrinkAxisMask & bit:
            places.append(int(first))
        else:
            end = first + end if options.offset else end
            begun, ended = options.beginMask & bit, options.endMask & bit
            places.append(slice(None if begun else first, None if ended else end, step))
    return x[tuple(places)]


OPERATORS: dict[str, Callable[[Any, list[Any], Scales], Any]] = {
    "REDUCE_MAX": _reduce_max,
    "CONCATENATION": _concatenation,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest_neighbor,
    "RESIZE_BILINEAR": _resize_bilinear,
    "PAD": _pad,
    "MAXIMUM": lambda options, inputs, scales: np.maximum(*inputs),
    "MINIMUM": lambda options, inputs, scales: np.minimum(*inputs),
    "TRANSPOSE": lambda options, inputs, scales: np.transpose(*inputs),
    "RESHAPE": lambda options, inputs, scales: inputs[0].reshape(inputs[1]),
    "EXPAND_DIMS": lambda options, inputs, scales: np.expand_dims(inputs[0], int(inputs[1].item())),
    "SHAPE": lambda options, inputs, scales: np.array(inputs[0].shape),
    "STRIDED_SLICE": _strided_slice,
    "PACK": lambda options, inputs, scales: np.stack(inputs),
}
