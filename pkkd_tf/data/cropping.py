"""Random crop and flip of whole batches: what is drawn, and what is done with it."""

from typing import NamedTuple

import tensorflow as tf

from pkkd_tf.data.randomness import fold


class Windows(NamedTuple):
    """Which window of its zero padded image each image of a batch becomes, as int64 Tensors.

    Attributes:
        shift: (2, batch, 1). First row and first column.
        mirror: (batch, 1). 1: its columns are reversed.
    """

    shift: tf.Tensor
    mirror: tf.Tensor


def draw_windows(
    key: tf.Tensor, padding: int, flip: bool, place: tuple[int, int], rows: int | tf.Tensor
) -> Windows:
    """Draws first rows and columns uniform in 0..2 padding, and the mirror with probability 1/2.

    Args:
        key: Tensor of two integers. All draws are a function of it.
        padding: int. Zeros added on each side before the crop.
        flip: bool. Whether to mirror left and right.
        place: (first row, rows of the whole batch) of the images whose draws are wanted.
        rows: int or scalar Tensor. How many images that are.
    """
    first, drawn = place
    shift = tf.random.stateless_uniform(
        [2, drawn, 1], fold(key, 1), 0, 2 * padding + 1, dtype=tf.int32
    )[:, first : first + rows]
    mirror = tf.random.stateless_uniform([drawn, 1], fold(key, 2), 0, 2, dtype=tf.int32)
    mirror = mirror[first : first + rows] * int(flip)
    # 64 bits: a GPU computes with 32 bit integers in the host's memory alone.
    return Windows(tf.cast(shift, tf.int64), tf.cast(mirror, tf.int64))


def cut_windows(images: tf.Tensor, windows: Windows, padding: int) -> tf.Tensor:
    """Cuts each image's window out of it over black.

    The whole batch is one gather: row y, column x of an output is row y + dy and column x + dx of
    the zero padded image, (dy, dx) its shift, x reversed where it is mirrored.

    Input shape: (batch, height, width, channels)
    Output shape: the same.
    """
    height, width, channels = images.shape[1:]
    border = [padding, padding]
    padded = tf.reshape(tf.pad(images, [[0, 0], border, border, [0, 0]]), [-1, channels])
    rows = windows.shift[0] + tf.range(height, dtype=tf.int64)
    number = tf.range(tf.shape(images, tf.int64)[0])
    rows += number[:, tf.newaxis] * (height + 2 * padding)
    forward = tf.range(width, dtype=tf.int64)
    backward = tf.range(width - 1, -1, -1, dtype=tf.int64)
    columns = tf.where(windows.mirror == 1, backward, forward) + windows.shift[1]
    index = rows[:, :, tf.newaxis] * (width + 2 * padding) + columns[:, tf.newaxis]
    return tf.ensure_shape(tf.gather(padded, index), images.shape)


def random_crop_and_flip(
    images: tf.Tensor,
    key: tf.Tensor,
    padding: int,
    flip: bool,
    place: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Shifts each image by up to `padding` pixels over black and mirrors every other one.

    Args:
        images: Tensor of any type, (batch, height, width, channels).
        key: Tensor of two integers. All draws are a function of it.
        padding: int. Zeros added on each side before the crop.
        flip: bool. Whether to mirror left and right.
        place: (first row, rows) of the batch that `images` are a part of, and whose draws they
            get; None: they are the whole batch.
    """
    batch = tf.shape(images)[0]
    windows = draw_windows(key, padding, flip, place or (0, batch), batch)
    return cut_windows(images, windows, padding)
