"""The input gradient, as a gather.

Pixels of one phase (row and column modulo the strides) are seen under the same taps: each phase is
one chain over its own pixels, and nothing has to be spread over the image.
"""

from typing import Any

import tensorflow as tf

from pkkd_tf.ops.fusible.chain import chain
from pkkd_tf.ops.fusible.layer import FusibleLayer
from pkkd_tf.ops.geometry import Geometry


@tf.autograph.experimental.do_not_convert
def input_gradient(
    x: tf.Tensor, filters: tf.Tensor, gradient: tf.Tensor, geometry: Geometry, mode: str
) -> tf.Tensor:
    """`dX = sum_t HT(F - X) dY`, as `reference.input_gradient`."""
    phases = _Phases(FusibleLayer(x, filters, geometry), gradient, mode)
    (rows, columns), (height, width) = geometry.strides, phases.size
    lines = []
    for row in range(rows):
        line = tf.stack([phases.sum(row, column) for column in range(columns)], axis=3)
        lines.append(tf.reshape(line, [-1, height, width * columns, x.shape[3]]))
    image = [tf.shape(x)[0], height * rows, width * columns, x.shape[3]]
    dx = tf.reshape(tf.stack(lines, axis=2), image)
    (top, _), (left, _) = phases.layer.pads
    return tf.cast(tf.slice(dx, [0, top, left, 0], tf.shape(x)), x.dtype)


class _Phases:
    """What the phases share: images of whole strides, and gradients with zeros around them."""

    def __init__(self, layer: FusibleLayer, gradient: tf.Tensor, mode: str):
        self.layer, self.mode = layer, mode
        strides = layer.geometry.strides
        self.size = [(n + s - 1) // s for n, s in zip(layer.padded, strides)]  # of each phase
        missing = [[0, n * s - p] for n, s, p in zip(self.size, strides, layer.padded)]
        self.images = tf.pad(layer.images, [[0, 0], *missing, [0, 0], [0, 0]])
        # An output that sees a pixel lies at most so many pixels of the phase before it.
        windows = zip(layer.kernel, layer.geometry.dilations, strides)
        self.reach = [(taps - 1) * dilation // stride for taps, dilation, stride in windows]
        around = [[r, n - o] for r, n, o in zip(self.reach, self.size, layer.output)]
        gradient = tf.pad(tf.cast(gradient, layer.dtype), [[0, 0], *around, [0, 0]])
        size = [r + n for r, n in zip(self.reach, self.size)]
        self.gradient = tf.reshape(gradient, [layer.batch, *size, layer.groups, layer.outputs])
        self.filters = tf.transpose(layer.filters, [0, 3, 2, 1])  # taps, outputs, groups, inputs

    def sum(self, row: int, column: int) -> tf.Tensor:
        """Of one phase, as (batch, *size, groups, inputs)."""
        layer, (rows, columns) = self.layer, self.layer.geometry.strides
        x = self.images[:, row::rows, column::columns]
        taps = self._taps(row, column)
        table = tf.constant(taps, tf.int32, shape=[len(taps), 3])

        def add(total: tf.Tensor, step: Any, first: Any, count: int) -> tf.Tensor:
            tap, before, left = tf.unstack(table[step])
            size = [1, count, layer.groups, layer.inputs]
            f = tf.slice(self.filters, [tap, first, 0, 0], size)[0]
            dy = self._gradient(before, left, first, count)
            terms = tf.zeros_like(total)
            for k in range(count):
                terms += self._slope(f[k] - x) * dy[..., k : k + 1]
            # Without it HT(NaN) * 0 would be NaN where no output sees the pixel under this tap.
            return total + tf.where(self._is_seen(before, left), terms, 0)

        return chain(add, tf.zeros_like(x), len(taps), layer.outputs)

    def _taps(self, row: int, column: int) -> list[tuple[int, int, int]]:
        """Those that see the phase, and how many of its pixels before a pixel their output is."""
        found = []
        (rows, columns), (down, right) = self.layer.geometry.strides, self.layer.geometry.dilations
        for tap in range(self.layer.taps):
            i, j = (n * d for n, d in zip(divmod(tap, self.layer.kernel[1]), (down, right)))
            if i % rows == row and j % columns == column:
                found.append((tap, i // rows, j // columns))
        return found

    def _gradient(self, before: Any, left: Any, first: Any, count: int) -> tf.Tensor:
        begin = [0, self.reach[0] - before, self.reach[1] - left, 0, first]
        size = [self.layer.batch, *self.size, self.layer.groups, count]
        return tf.slice(self.gradient, begin, size)

    def _is_seen(self, before: Any, left: Any) -> tf.Tensor:
        """Whether the output is there, as (rows, columns, 1, 1)."""
        seen = []
        for size, output, shift in zip(self.size, self.layer.output, (before, left)):
            place = tf.range(size) - shift
            seen.append((place >= 0) & (place < output))
        return (seen[0][:, None] & seen[1])[..., None, None]

    def _slope(self, z: tf.Tensor) -> tf.Tensor:
        return tf.sign(z) if self.mode == "sign" else tf.clip_by_value(z, -1.0, 1.0)
