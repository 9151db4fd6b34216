"""Checks and resolves what a window slides over: strides, padding, dilations, groups."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pkkd_tf.integers import integers

Pairs = tuple[tuple[Any, Any], tuple[Any, Any]]
Padding = str | Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sliding window of one adder layer, every argument checked and in its canonical form.

    Attributes:
        strides: `(height, width)`, pixels.
        padding: `"SAME"`, `"VALID"` or `((top, bottom), (left, right))`, pixels.
        dilations: `(height, width)`, pixels between taps.
        groups: number of channel groups.
    """

    strides: tuple[int, int]
    padding: str | tuple[tuple[int, int], tuple[int, int]]
    dilations: tuple[int, int]
    groups: int

    def pads(self, image: Sequence[Any], kernel: Sequence[int]) -> Pairs:
        """Zero pixels added at `((top, bottom), (left, right))` for an image `(height, width)`."""
        if self.padding == "VALID":
            return (0, 0), (0, 0)
        if self.padding != "SAME":
            return self.padding  # type: ignore[return-value]
        height, width = (
            _same_pad(size, taps, stride, dilation)
            for size, taps, stride, dilation in zip(image, kernel, self.strides, self.dilations)
        )
        return height, width

    def output_size(self, padded: Sequence[Any], kernel: Sequence[int]) -> tuple[Any, Any]:
        """Rows and columns of the response for an image that is already padded."""
        height, width = (
            _maximum((size - dilation * (taps - 1) - 1) // stride + 1, 0)
            for size, taps, stride, dilation in zip(padded, kernel, self.strides, self.dilations)
        )
        return height, width


def make_geometry(strides: Any, padding: Padding, dilations: Any, groups: int) -> Geometry:
    """Returns the checked `Geometry`; raises `ValueError` naming the first bad argument."""
    (number,) = integers([groups]) or (0,)
    if number < 1:
        raise ValueError(f"`groups` must be a positive integer. Received: groups={groups!r}")
    return Geometry(
        _positive_pair(strides, "strides"),
        _check_padding(padding),
        _positive_pair(dilations, "dilations"),
        number,
    )


def static_or_dynamic_shape(x: tf.Tensor) -> list[Any]:
    """The shape of `x`: integers where they are known, scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def is_nonzero(size: Any) -> bool:
    """Whether a size is, or may turn out to be, another number than 0."""
    return tf.is_tensor(size) or size != 0


def pad_image(x: tf.Tensor, pads: Pairs) -> tf.Tensor:
    """`x` (N, H, W, C) with zero pixels at `((top, bottom), (left, right))`."""
    if any(is_nonzero(pixels) for pair in pads for pixels in pair):
        return tf.pad(x, [[0, 0], *pads, [0, 0]])
    return x


def _same_pad(size: Any, taps: int, stride: int, dilation: int) -> tuple[Any, Any]:
    outputs = (size + stride - 1) // stride
    total = _maximum((outputs - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def _maximum(a: Any, b: int) -> Any:
    return tf.maximum(a, b) if tf.is_tensor(a) else max(a, b)


def _positive_pair(value: Any, name: str) -> tuple[int, int]:
    pair = integers([value, value]) or integers(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(
            f"`{name}` must be a positive integer or a pair of them. Received: {name}={value!r}"
        )
    return pair


def _check_padding(padding: Padding) -> Any:
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        return padding.upper()
    try:
        pairs = tuple(integers(pair) for pair in padding)
    except TypeError:
        pairs = ()
    if len(pairs) != 2 or not all(len(p) == 2 and min(p) >= 0 for p in pairs):
        raise ValueError(
            '`padding` must be "SAME", "VALID" or ((top, bottom), (left, right)) with numbers '
            f"of pixels >= 0. Received: padding={padding!r}"
        )
    return pairs
