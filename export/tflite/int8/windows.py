"""Operators of an int8 network with a window that slides over images, in NumPy."""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.int8.arithmetic import Scales
from pkkd_tf.ops.geometry import make_geometry
from pkkd_tf.quantization.integer import LEAST

_SAME = schema.Padding.SAME


def conv(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """A convolution, in groups of channels where the filters have fewer than the images."""
    x, filters, bias = inputs
    windows = _windows(x.astype(np.float64) - scales.zeros[0], filters.shape[1:3], options)
    groups = x.shape[3] // filters.shape[3]
    pairs = zip(np.split(windows, groups, -1), np.split(filters.astype(np.float64), groups))
    sums = [np.tensordot(part, own, ((3, 4, 5), (1, 2, 3))) for part, own in pairs]
    sums = np.concatenate(sums, -1).astype(np.int64)  # exact in float64, and faster there
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, factor(scales), options.fusedActivationFunction)


def depthwise_conv(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """A convolution of each channel by itself."""
    x, filters, bias = inputs
    windows = _windows(x.astype(np.int64) - scales.zeros[0], filters.shape[1:3], options)
    sums = (np.repeat(windows, filters.shape[3] // x.shape[3], -1) * filters[0]).sum((3, 4))
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, factor(scales), options.fusedActivationFunction)


def _windows(x: np.ndarray, kernel: Any, options: Any) -> np.ndarray:
    """(N, P, Q, kh, kw, C) of an image that is 0 outside."""
    padding = "SAME" if options.padding == _SAME else "VALID"
    apart = [getattr(options, f"dilation{side}Factor", 1) for side in "HW"]
    geometry = make_geometry((options.strideH, options.strideW), padding, apart, 1)
    x = np.pad(x, ((0, 0), *geometry.pads(x.shape[1:3], kernel), (0, 0)))
    rows, columns = geometry.output_size(x.shape[1:3], kernel)
    (down, right), (apart_h, apart_w) = geometry.strides, geometry.dilations
    at = np.arange(rows)[:, None] * down + np.arange(kernel[0]) * apart_h
    across = np.arange(columns)[:, None] * right + np.arange(kernel[1]) * apart_w
    return x[:, at[:, None, :, None], across[None, :, None, :]]


def transpose_conv(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """Every number of the images adds itself times the filters to a window of the output."""
    (_, rows, columns, outputs), filters, x, bias = (*inputs, None)[:4]
    kernel, strides = filters.shape[1:3], (options.strideH, options.strideW)
    centred = x.astype(np.float64) - scales.zeros[2]
    products = np.tensordot(centred, filters.astype(np.float64), ((3,), (3,)))
    geometry = make_geometry(strides, "SAME" if options.padding == _SAME else "VALID", 1, 1)
    pads = geometry.pads((rows, columns), kernel)
    sums = np.zeros((len(x), rows + sum(pads[0]), columns + sum(pads[1]), outputs))
    for i, j in np.ndindex(*kernel):
        down, across = (slice(k, k + s * n, s) for k, s, n in zip((i, j), strides, x.shape[1:3]))
        sums[:, down, across] += products[..., i, j]
    sums = sums[:, pads[0][0] :, pads[1][0] :][:, :rows, :columns].astype(np.int64)
    sums = sums if bias is None else sums + bias
    return scales.requantized(sums, factor(scales, 2), options.fusedActivationFunction)


def factor(scales: Scales, images: int = 0) -> np.ndarray:
    """From a sum of products to a step of the output, for each output; `images` is their place."""
    x, filters, y = (scales.steps[i] for i in (images, 1, -1))
    return np.float32(x) * np.float32(filters) / np.float32(y)


def max_pool(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """The largest number of each window."""
    kernel = options.filterHeight, options.filterWidth
    x = inputs[0].astype(np.int32) - LEAST  # padding counts as the smallest value
    highest = _windows(x, kernel, options).max((3, 4)) + LEAST
    return scales.activated(highest, options.fusedActivationFunction)


def average_pool(options: Any, inputs: list[Any], scales: Scales) -> np.ndarray:
    """Rounded half away from 0; padding does not count."""
    kernel = options.filterHeight, options.filterWidth
    x = inputs[0].astype(np.int32)
    sums, counts = (_windows(v, kernel, options).sum((3, 4)) for v in (x, np.ones_like(x)))
    averages = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)
    return scales.activated(averages, options.fusedActivationFunction)
