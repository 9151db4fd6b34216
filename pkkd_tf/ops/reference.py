"""The adder response in stock TensorFlow operations: every device, SavedModel, TFLite-free.

The broadcast `|X - F|` of a whole layer does not fit in memory (2.4 GB for one ResNet-20 layer at
batch 256), so both passes run over tiles: some images at a time, one filter tap at a time, and of
a large image some rows at a time, such that one broadcast holds about `TILE_ELEMENTS` numbers.
Control dependencies let a graph compute no more than two taps at once; free to choose, it would
hold the broadcasts of all.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pkkd_tf.ops.geometry import Geometry, is_nonzero, pad_image
from pkkd_tf.ops.layer import Layer

TILE_ELEMENTS = 1 << 19


@tf.autograph.experimental.do_not_convert
def forward(
    x: tf.Tensor, filters: tf.Tensor, geometry: Geometry, mode: str = "clipped"
) -> tf.Tensor:
    """`Y(m,n,t) = -sum_{i,j,k} |X(m+i, n+j, k) - F(i,j,k,t)|`, shapes as in `adder_conv2d`.

    `mode` is that of `input_gradient`; only the compiled operation has a use for it here.
    """
    plan = _Plan(x, filters, geometry)

    def tile(images: tf.Tensor) -> tf.Tensor:
        images = plan.pad(images)
        total = tf.zeros([plan.tile, *plan.output, plan.groups, plan.outputs], plan.dtype)
        before = total
        for i, j in plan.taps():
            with tf.control_dependencies([before]):
                f, before = plan.filters[i, j], total
                total += plan.map_rows(
                    lambda pixels, f=f: tf.reduce_sum(tf.abs(pixels[..., None] - f), axis=3),
                    [plan.window(images, i, j)],
                    plan.outputs,
                )
        return -tf.reshape(total, [plan.tile, *plan.output, plan.all_outputs])

    y = plan.map_tiles(tile, [plan.images], [*plan.output, plan.all_outputs])
    return tf.cast(y, x.dtype)


@tf.autograph.experimental.do_not_convert
def input_gradient(
    x: tf.Tensor, filters: tf.Tensor, gradient: tf.Tensor, geometry: Geometry, mode: str
) -> tf.Tensor:
    """`dX = sum_t HT(F - X) dY`, `HT(z) = clamp(z, -1, 1)` or, with mode `"sign"`, `sign(z)`."""
    plan = _Plan(x, filters, geometry)
    gradient = plan.pad_batch(tf.cast(gradient, plan.dtype))
    slope = tf.sign if mode == "sign" else lambda z: tf.clip_by_value(z, -1.0, 1.0)

    def tile(images: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        images = plan.pad(images)
        total = tf.zeros_like(images)
        dy = tf.reshape(dy, [plan.tile, *plan.output, plan.groups, plan.outputs])
        before = total
        for i, j in plan.taps():
            with tf.control_dependencies([before]):
                f, before = plan.filters[i, j], total
                at_tap = plan.map_rows(
                    lambda pixels, g, f=f: tf.reduce_sum(
                        slope(f - pixels[..., None]) * g[..., None, :], axis=4
                    ),
                    [plan.window(images, i, j), dy],
                    plan.inputs,
                )
                total += plan.spread(at_tap, i, j)
        return plan.crop(total)

    dx = plan.map_tiles(tile, [plan.images, gradient], [*plan.size, plan.all_inputs])
    return tf.cast(dx, x.dtype)


class _Plan(Layer):
    """The tiling of one layer: how many images and rows at a time, and where a tap looks."""

    def __init__(self, x: tf.Tensor, filters: tf.Tensor, geometry: Geometry):
        super().__init__(x, filters, geometry)
        self.all_inputs, self.all_outputs = x.shape[3], filters.shape[3]
        self._choose_tile(self.all_inputs * self.outputs)
        grouped = [*self.kernel, self.inputs, self.groups, self.outputs]
        filters = tf.reshape(tf.cast(filters, self.dtype), grouped)
        self.filters = tf.transpose(filters, [0, 1, 3, 2, 4])
        self.images = self.pad_batch(tf.cast(x, self.dtype))

    def _choose_tile(self, terms_per_pixel: int) -> None:
        """Images a tile, and rows a broadcast where even one image would be too much."""
        rows, columns = (64 if tf.is_tensor(size) else size for size in self.output)
        per_image = max(1, rows * columns * terms_per_pixel)
        self.tile = max(1, TILE_ELEMENTS // per_image)
        if not tf.is_tensor(self.batch):
            tiles = max(1, -(-self.batch // self.tile))
            self.tile = max(1, -(-self.batch // tiles))
        self.rows = _divisor(self.output[0], rows * TILE_ELEMENTS // per_image)
        tiles = -(-self.batch // self.tile)
        self.tiles = tf.maximum(tiles, 1) if tf.is_tensor(tiles) else tiles  # none has no shape

    def pad_batch(self, x: tf.Tensor) -> tf.Tensor:
        """Adds images until the tiles divide the batch."""
        missing = self.tiles * self.tile - self.batch
        return tf.pad(x, [[0, missing], [0, 0], [0, 0], [0, 0]]) if is_nonzero(missing) else x

    def pad(self, images: tf.Tensor) -> tf.Tensor:
        """A tile's images with their border; a whole batch's would be one more copy of it."""
        return pad_image(images, self.pads)

    def crop(self, images: tf.Tensor) -> tf.Tensor:
        """The transpose of `pad`."""
        (top, _), (left, _) = self.pads
        return tf.slice(images, [0, top, left, 0], [self.tile, *self.size, self.all_inputs])

    def taps(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.kernel[0]) for j in range(self.kernel[1])]

    def _tap_slice(self, i: int, j: int) -> tuple[list[Any], list[Any], list[int]]:
        begin = [i * self.geometry.dilations[0], j * self.geometry.dilations[1]]
        strides = self.geometry.strides
        end = [b + (n - 1) * s + 1 for b, n, s in zip(begin, self.output, strides)]
        return [0, *begin, 0], [self.tile, *end, self.all_inputs], [1, *strides, 1]

    def window(self, images: tf.Tensor, i: int, j: int) -> tf.Tensor:
        """The pixels under tap (i, j), as (tile, rows, columns, groups, inputs of a group)."""
        pixels = tf.strided_slice(images, *self._tap_slice(i, j))
        return tf.reshape(pixels, [self.tile, *self.output, self.groups, self.inputs])

    def spread(self, at_tap: tf.Tensor, i: int, j: int) -> tf.Tensor:
        """The transpose of `window`: values back at their pixels, zeros between them."""
        begin, end, strides = self._tap_slice(i, j)
        return tf.raw_ops.StridedSliceGrad(
            shape=[self.tile, *self.padded, self.all_inputs],
            begin=begin,
            end=end,
            strides=strides,
            dy=tf.reshape(at_tap, [self.tile, *self.output, self.all_inputs]),
        )

    def map_rows(
        self, pixels: Callable[..., tf.Tensor], arrays: list[tf.Tensor], channels: int
    ) -> tf.Tensor:
        """`pixels` on `self.rows` rows of a tile at a time; it returns `channels` a group."""
        shape = [self.tile, *self.output, self.groups, channels]
        parts = self.tile * self.output[0] // self.rows
        if not tf.is_tensor(self.output[0]) and self.rows == self.output[0]:
            flat = [tf.reshape(a, [-1, self.output[1], *a.shape[3:]]) for a in arrays]
            return tf.reshape(pixels(*flat), shape)
        chunked = [tf.reshape(a, [parts, self.rows, self.output[1], *a.shape[3:]]) for a in arrays]
        width = None if tf.is_tensor(self.output[1]) else self.output[1]
        rows = tf.map_fn(
            lambda elements: pixels(*elements),
            chunked,
            fn_output_signature=tf.TensorSpec(
                [self.rows, width, self.groups, channels], self.dtype
            ),
            parallel_iterations=1,
        )
        return tf.reshape(rows, shape)

    def map_tiles(
        self, tile: Callable[..., tf.Tensor], arrays: list[tf.Tensor], shape: Any
    ) -> tf.Tensor:
        """`tile` on `self.tile` images at a time, the results as one batch."""
        if not tf.is_tensor(self.tiles) and self.tiles == 1:
            return tile(*arrays)[: self.batch]

        def one(index: tf.Tensor) -> tf.Tensor:
            begin = index * self.tile
            return tile(*(tf.slice(a, [begin, 0, 0, 0], [self.tile, -1, -1, -1]) for a in arrays))

        static = [None if tf.is_tensor(size) else size for size in shape]
        y = tf.map_fn(
            one,
            tf.range(self.tiles),
            fn_output_signature=tf.TensorSpec([self.tile, *static], self.dtype),
            parallel_iterations=1,
        )
        return tf.reshape(y, [self.tiles * self.tile, *shape])[: self.batch]


def _divisor(size: Any, limit: int) -> int:
    """The largest divisor of `size` up to `limit`; 1 where `size` is not known."""
    if tf.is_tensor(size):
        return 1
    return max((d for d in range(1, min(limit, size) + 1) if size % d == 0), default=1)
