"""The adder on 8-bit integers as its formula stands, plain loops in int64."""

import numpy as np

from tests import numpy_adder


def forward(
    x,
    f,
    multiplier,
    bias,
    *,
    zero=0,
    shift=1,
    low=-128,
    high=127,
    residual=None,
    residual_multiplier=0,
    strides=(1, 1),
    padding="VALID",
    dilations=(1, 1),
    groups=1,
):
    """clamp((S * multiplier + residual_multiplier * residual + bias) >> shift, low, high)."""
    sums = distances(x, f, zero, strides, padding, dilations, groups)
    t = sums * multiplier.astype(np.int64) + bias
    if residual is not None:
        t = t + residual_multiplier * residual.astype(np.int64)
    return np.clip(t >> shift, low, high).astype(np.int8)


def distances(x, f, zero=0, strides=(1, 1), padding="VALID", dilations=(1, 1), groups=1):
    """S: the sums of |X - F|, a tap outside the image being X = zero."""
    pads = numpy_adder.pads(padding, x.shape[1:3], f.shape[:2], strides, dilations)
    x = np.pad(x.astype(np.int64), ((0, 0), *pads, (0, 0)), constant_values=zero)
    kh, kw, inputs, outputs = f.shape
    rows = (x.shape[1] - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    columns = (x.shape[2] - dilations[1] * (kw - 1) - 1) // strides[1] + 1
    sums = np.zeros((len(x), rows, columns, outputs), np.int64)
    for p in range(rows):
        for q in range(columns):
            h = p * strides[0] + dilations[0] * np.arange(kh)
            w = q * strides[1] + dilations[1] * np.arange(kw)
            for o in range(outputs):
                first = o // (outputs // groups) * inputs
                taps = x[np.ix_(range(len(x)), h, w, range(first, first + inputs))]
                sums[:, p, q, o] = np.abs(taps - f[..., o].astype(np.int64)).sum((1, 2, 3))
    return sums
