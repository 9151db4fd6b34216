"""The trained or calibrated ranges of a layer: one scale and zero point for inputs and filters."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pkkd_tf.layers.common import PACKAGE
from pkkd_tf.quantization.fake_quantize import (
    check_bits,
    fake_quantize,
    quantize_filters,
    scale_and_zero_point,
)

SMALLEST_SCALE = 1e-8
INITIAL_RANGE = (0.0, 6.0)  # ReLU6's, until something better is known


@keras.saving.register_keras_serializable(package=PACKAGE)
class AtLeast(keras.constraints.Constraint):
    """Keeps every number at or above `least`.

    Args:
        least: float.
    """

    def __init__(self, least: float):
        self.least = least

    def __call__(self, w: Any) -> Any:
        """Returns `max(w, least)`."""
        return keras.ops.maximum(w, self.least)

    def get_config(self) -> dict[str, Any]:
        """Returns the argument, serialisable."""
        return {"least": self.least}


class SharedRange:
    """Ranges that a layer rounds in: `|x - f|` needs one scale and zero point for both.

    Each range is a scale and a zero point; the layer holds them as its weights `scale` and
    `zero_point`, so that they are saved with it. The zero point is never trained: 0, which padding
    needs, stays a level, and after a ReLU it is level 0. A trained scale learns from what is
    rounded by `quantize`, not from filters, with LSQ's factor
    `1 / sqrt(numbers of one image * (2^bits - 1))` on its gradient.

    Args:
        layer: the `keras.layers.Layer` that gets the weights; call it in `build`.
        bits: int from 2 to 8.
        count: int, number of ranges.
        trainable: bool, whether optimizers change the scales.

    Raises:
        ValueError: `bits` out of its range.

    Example:
        >>> layer = keras.layers.Layer()    # in its `build`, else
        >>> layer.range = SharedRange(layer, bits=8, count=1, trainable=False)
        >>> layer.range.assign([(0.0, 6.0)])
        >>> layer.range.quantize(keras.random.normal((4, 8, 8, 3)), 0)
    """

    def __init__(self, layer: keras.layers.Layer, bits: int, count: int, trainable: bool):
        self.bits, self.count = check_bits(bits), count
        scale, zero_point = scale_and_zero_point(*INITIAL_RANGE, bits)
        options = {"shape": (count,), "dtype": layer.variable_dtype, "autocast": False}
        self.scale = layer.add_weight(
            name="scale",
            initializer=keras.initializers.Constant(scale),
            constraint=AtLeast(SMALLEST_SCALE),
            trainable=trainable,
            **options,
        )
        self.zero_point = layer.add_weight(
            name="zero_point",
            initializer=keras.initializers.Constant(zero_point),
            trainable=False,
            **options,
        )

    def assign(self, ranges: Sequence[tuple[float, float]]) -> None:
        """Sets the ranges; 0 becomes a level of each.

        Args:
            ranges: `count` pairs `(low, high)`.

        Raises:
            ValueError: another number of pairs, or a pair that is no range.
        """
        if len(ranges) != self.count:
            raise ValueError(
                f"There must be a range for each scale. Received: {len(ranges)} ranges, "
                f"{self.count} scales"
            )
        pairs = np.array([scale_and_zero_point(*ends, self.bits) for ends in ranges])
        self.scale.assign(np.maximum(pairs[:, 0], SMALLEST_SCALE))
        self.zero_point.assign(pairs[:, 1])

    def save(self, store: Any) -> None:
        """Puts scale and zero point into what a layer saves."""
        store["scale"], store["zero_point"] = self.scale, self.zero_point

    def load(self, store: Any) -> None:
        """Takes in what `save` put there."""
        self.scale.assign(store["scale"])
        self.zero_point.assign(store["zero_point"])

    def ends(self) -> list[tuple[float, float]]:
        """The ranges as they are now: `(low, high)` of each."""
        scales, zeros = (keras.ops.convert_to_numpy(v) for v in (self.scale, self.zero_point))
        most = 2**self.bits - 1
        return [(float(0 - z * s), float((most - z) * s)) for s, z in zip(scales, zeros)]

    def quantize(self, x: Any, index: int = 0) -> tf.Tensor:
        """`x` rounded to the levels of range `index`; see `fake_quantize`."""
        scale, zero_point = self._numbers(index)
        images = tf.cast(tf.shape(x)[0], scale.dtype)
        numbers = tf.cast(tf.size(x), scale.dtype) / tf.maximum(images, 1)
        factor = tf.math.rsqrt(tf.maximum(numbers, 1) * (2**self.bits - 1))
        return fake_quantize(x, _scale_gradient(scale, factor), zero_point, self.bits)

    def quantize_filters(self, filters: Any, index: int = 0) -> tf.Tensor:
        """Filters rounded where they lie in range `index`; see `quantize_filters`."""
        return quantize_filters(filters, *self._numbers(index), self.bits)

    def _numbers(self, index: int) -> tuple[tf.Tensor, tf.Tensor]:
        scale, zero_point = (
            keras.ops.convert_to_tensor(v)[index] for v in (self.scale, self.zero_point)
        )
        return scale, zero_point


def _scale_gradient(x: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`x`, its gradient multiplied by `factor`."""
    return x * factor + tf.stop_gradient(x - x * factor)
