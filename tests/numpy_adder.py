"""The adder response and its gradients as the formulas stand, plain loops in float64."""

import numpy as np


def pads(padding, image, kernel, strides, dilations):
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding != "SAME":
        return padding
    pairs = []
    for size, taps, stride, dilation in zip(image, kernel, strides, dilations):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def walk(x, f, strides, padding, dilations, groups):
    """Yields (p, q, o, rows, columns, channels): which padded taps output (p, q, o) looks at."""
    kh, kw, inputs, outputs = f.shape
    (t, b), (left, r) = pads(padding, x.shape[1:3], (kh, kw), strides, dilations)
    xp = np.pad(x.astype(np.float64), ((0, 0), (t, b), (left, r), (0, 0)))
    rows = (xp.shape[1] - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    columns = (xp.shape[2] - dilations[1] * (kw - 1) - 1) // strides[1] + 1

    def places():
        for p in range(rows):
            for q in range(columns):
                for o in range(outputs):
                    h = p * strides[0] + dilations[0] * np.arange(kh)
                    w = q * strides[1] + dilations[1] * np.arange(kw)
                    first = o // (outputs // groups) * inputs
                    yield p, q, o, np.ix_(range(len(x)), h, w, range(first, first + inputs))

    return xp, (len(x), rows, columns, outputs), (t, left), places


def forward(x, f, strides=(1, 1), padding="VALID", dilations=(1, 1), groups=1):
    xp, shape, _, places = walk(x, f, strides, padding, dilations, groups)
    y = np.zeros(shape)
    for p, q, o, taps in places():
        y[:, p, q, o] = -np.abs(xp[taps] - f[..., o].astype(np.float64)).sum((1, 2, 3))
    return y


def gradients(x, f, dy, strides, padding, dilations, groups, mode):
    """Returns dX and dF by the stated formulas."""
    f = f.astype(np.float64)
    xp, _, (top, left), places = walk(x, f, strides, padding, dilations, groups)
    dx, df = np.zeros_like(xp), np.zeros_like(f)
    slope = np.sign if mode == "sign" else lambda z: np.clip(z, -1, 1)
    for p, q, o, taps in places():
        g = dy[:, p, q, o].astype(np.float64)[:, None, None, None]
        dx[taps] += slope(f[..., o] - xp[taps]) * g
        df[..., o] += ((xp[taps] - f[..., o]) * g).sum(0)
    height, width = x.shape[1:3]
    return dx[:, top : top + height, left : left + width], df
