"""The adder response in the two forms that TFLite can hold: builtin operators, one custom one."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from export.program import ExportError
from pkkd_tf.ops.geometry import Geometry, pad_image, static_or_dynamic_shape

CUSTOM_OPERATOR = "AdderConv2D"
CACHED_NUMBERS = 1 << 18  # that a chunk of outputs may spread over, an image: a megabyte
MOST_CHUNKS = 32
Response = Callable[[Any, Any, Geometry], tf.Tensor]


@tf.autograph.experimental.do_not_convert
def portable(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """`Y = -sum |X - F|` in PAD, STRIDED_SLICE, CONCATENATION, SUB, ABS, SUM and NEG.

    The windows are laid out once, all taps beside each other, and meet some filters at a time: as
    many as keep the differences in the cache, so a layer is at most 32 groups of operators.

    Args:
        x: images (N, H, W, C); N may be unknown, H and W too unless the padding is `"SAME"` and
            the stride above 1.
        filters: tensor (kh, kw, C / groups, O).
        geometry: strides, padding, dilations and groups.

    Returns:
        Tensor (N, P, Q, O).

    Raises:
        ExportError: the padding depends on a size that is not known.
    """
    return _response(x, filters, geometry, MOST_CHUNKS)


def _response(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry, most_chunks: int) -> tf.Tensor:
    windows = tf.concat(_taps(x, filters.shape, geometry), -1)
    kh, kw, inputs, outputs = filters.shape
    known = tf.get_static_value(filters)  # cut here, not by the converter, where it can be
    # (outputs of a group, taps * inputs of all groups), ordered as the windows are
    library = tf if known is None else np
    rows = filters if known is None else known
    rows = library.reshape(rows, [kh * kw, inputs, geometry.groups, outputs // geometry.groups])
    rows = library.transpose(rows, [3, 0, 2, 1])
    rows = library.reshape(rows, [outputs // geometry.groups, -1])
    if geometry.groups > 1:
        return _grouped(windows, rows, geometry.groups, kh * kw)
    chunk = _chunk(windows, outputs, most_chunks)
    windows = tf.expand_dims(windows, -2)
    sums = [
        tf.reduce_sum(tf.abs(windows - rows[first : first + chunk]), -1)
        for first in range(0, outputs, chunk)
    ]
    return -tf.concat(sums, -1)


@tf.autograph.experimental.do_not_convert
def custom(x: tf.Tensor, filters: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The same as one custom operator AdderConv2D; arguments, result and errors of `portable`."""
    options = _options(x, filters.shape, geometry)
    attributes = "".join(
        f' attr {{ key: "{name}" value {{ i: {value} }} }}' for name, value in options.items()
    )

    @tf.function(
        experimental_implements=f'name: "{CUSTOM_OPERATOR}" '
        f'attr {{ key: "tfl_fusable_op" value {{ b: true }} }}{attributes}',
        autograph=False,
    )
    def operator(x: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
        return _response(x, filters, geometry, most_chunks=1)  # the converter leaves it out

    return operator(x, filters)


def _options(x: tf.Tensor, kernel: Any, geometry: Geometry) -> dict[str, int]:
    """The options of the custom operator."""
    (top, bottom), (left, right) = static_pads(x, kernel, geometry)
    return {
        "stride_h": geometry.strides[0],
        "stride_w": geometry.strides[1],
        "pad_top": top,
        "pad_bottom": bottom,
        "pad_left": left,
        "pad_right": right,
        "dilation_h": geometry.dilations[0],
        "dilation_w": geometry.dilations[1],
        "groups": geometry.groups,
    }


def static_pads(x: tf.Tensor, kernel: Any, geometry: Geometry) -> Any:
    """Zero pixels `((top, bottom), (left, right))` as integers; raises `ExportError` if unknown."""
    sizes = []
    for size, stride in zip(x.shape[1:3], geometry.strides):
        if size is None and stride > 1 and geometry.padding == "SAME":
            raise ExportError(
                'Padding "same" at a stride above 1 needs images of known height and width. '
                f"Received: image shape={x.shape}, strides={geometry.strides}"
            )
        sizes.append(1 if size is None else size)  # at stride 1 the size does not matter
    return geometry.pads(sizes, kernel[:2])


def _taps(x: tf.Tensor, kernel: Any, geometry: Geometry) -> list[tf.Tensor]:
    """The pixels under each tap, (N, P, Q, C); ends count from the end, sizes may be unknown."""
    x = pad_image(x, static_pads(x, kernel, geometry))
    (step_h, step_w), (apart_h, apart_w) = geometry.strides, geometry.dilations

    def part(tap: int, taps: int, step: int, apart: int) -> slice:
        return slice(tap * apart, (tap + 1 - taps) * apart or None, step)

    return [
        x[:, part(i, kernel[0], step_h, apart_h), part(j, kernel[1], step_w, apart_w), :]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def _chunk(windows: tf.Tensor, outputs: int, most_chunks: int) -> int:
    """How many filters meet the windows at a time."""
    spread = math.prod(size or 32 for size in windows.shape[1:])
    return min(outputs, max(CACHED_NUMBERS // spread, -(-outputs // most_chunks)))


def _grouped(windows: tf.Tensor, rows: tf.Tensor, groups: int, taps: int) -> tf.Tensor:
    """One filter of every group at a time."""
    pixels = static_or_dynamic_shape(windows)[:3]
    pixels[0] = -1
    inputs = windows.shape[-1] // taps // groups
    sums = []
    for row in [rows[i] for i in range(rows.shape[0])]:
        differences = tf.reshape(tf.abs(windows - row), [-1, taps, groups, inputs])
        total = tf.reduce_sum(differences, [1, 3])
        sums.append(tf.reshape(total, [*pixels, groups, 1]))
    return -tf.reshape(tf.concat(sums, -1), [*pixels, groups * len(sums)])
