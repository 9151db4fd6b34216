"""The adder layers of images in rounded numbers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D, common
from pkkd_tf.quantization.fake_quantize import check_bits
from pkkd_tf.quantization.rounding import FakeQuantize as FakeQuantize  # files know it from here
from pkkd_tf.quantization.shared_range import SharedRange


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedAdderConv2D(AdderConv2D):
    """`AdderConv2D` on inputs and filters that are rounded to the same levels.

        Y(t) = -sum |Q(X) - F~(t)|,   F~(t) = Q(clip(F(t))) + F(t) - clip(F(t))
             = -sum |Q(X) - Q(clip(F(t)))| - sum |F(t) - clip(F(t))|

    `Q` and `clip` belong to the range of the filter's group: `|x - f|` needs one scale for both,
    so each group of filters meets inputs rounded for it (AdderQuant). Filters beyond the range
    cost nothing: the second sum is a bias (AdderNet 2.0). Gradients are those of the first line:
    `AdderConv2D`'s of `Q(X)` and `F~`, straight through the rounding of both; outside the range
    an input gets none (`fake_quantize`). Trained like `AdderConv2D`.

    Args:
        filters, kernel_size: and all arguments of `AdderConv2D`, by name.
        bits: int from 2 to 8.
        filter_groups: for every filter the number of its group, 0 to groups - 1; None: one group.
        train_range: bool, whether optimizers change the ranges.
        **kwargs: further arguments of `AdderConv2D`.

    Input shape:
        As of `AdderConv2D`.

    Output shape:
        As of `AdderConv2D`.

    Raises:
        ValueError: as `AdderConv2D`; `bits` out of its range; `filter_groups` of another length,
            with a group left out, or more than one together with channel groups.

    Example:
        >>> layer = QuantizedAdderConv2D(4, 3, bits=4, filter_groups=[0, 1, 1, 0])
        >>> layer.build((None, 8, 8, 3))
        >>> layer.range.assign([(0.0, 3.0), (0.0, 6.0)])

    Limits: one response a group, on rounded copies of the input: the work stays the same, the
    memory of the copies does not.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        *args: Any,
        bits: int = 8,
        filter_groups: Sequence[int] | None = None,
        train_range: bool = False,
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, *args, **kwargs)
        self.bits, self.train_range = check_bits(bits), train_range
        self.filter_groups = [0] * filters if filter_groups is None else list(filter_groups)
        self.filter_groups = [int(group) for group in self.filter_groups]
        _check_filter_groups(self.filter_groups, filters, self.groups)

    def build(self, input_shape: Any) -> None:
        """Creates the filters, and a scale and zero point for each of their groups."""
        super().build(input_shape)
        self.range = SharedRange(self, self.bits, len(set(self.filter_groups)), self.train_range)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        del training
        kernel = keras.ops.convert_to_tensor(self.kernel)
        if self.range.count == 1:
            outputs = _respond(self, inputs, kernel, self.groups)
            return common.finish(self, outputs)
        members = [np.flatnonzero(np.equal(self.filter_groups, g)) for g in range(self.range.count)]
        parts = [
            _respond(self, inputs, tf.gather(kernel, own, axis=3), self.groups, group)
            for group, own in enumerate(members)
        ]
        axis = _channel_axis(self)
        order = np.argsort(np.concatenate(members))
        return common.finish(self, tf.gather(tf.concat(parts, axis), order, axis=axis))

    def save_own_variables(self, store: Any) -> None:
        """Saves the ranges too: Keras' convolutions know of filters and bias alone."""
        super().save_own_variables(store)
        if self.built:
            self.range.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(store)
        if self.built:
            self.range.load(store)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        own = {name: getattr(self, name) for name in ("bits", "filter_groups", "train_range")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedAdderDepthwiseConv2D(AdderDepthwiseConv2D):
    """`AdderDepthwiseConv2D` in rounded numbers, as `QuantizedAdderConv2D` with one range.

    Args:
        kernel_size: and all arguments of `AdderDepthwiseConv2D`, by name.
        bits: int from 2 to 8.
        train_range: bool, whether optimizers change the range.
        **kwargs: further arguments of `AdderDepthwiseConv2D`.

    Input shape:
        As of `AdderDepthwiseConv2D`.

    Output shape:
        As of `AdderDepthwiseConv2D`.

    Raises:
        ValueError: as `AdderDepthwiseConv2D`; `bits` out of its range.

    Example:
        >>> QuantizedAdderDepthwiseConv2D(3, bits=6)(keras.random.normal((4, 8, 8, 6))).shape
        TensorShape([4, 6, 6, 6])
    """

    def __init__(
        self,
        kernel_size: Any,
        *args: Any,
        bits: int = 8,
        train_range: bool = False,
        **kwargs: Any,
    ):
        super().__init__(kernel_size, *args, **kwargs)
        self.bits, self.train_range = check_bits(bits), train_range

    def build(self, input_shape: Any) -> None:
        """Creates the filters, scale and zero point."""
        super().build(input_shape)
        self.range = SharedRange(self, self.bits, 1, self.train_range)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        del training
        return common.finish(self, _respond(self, inputs, *self.filters_and_groups()))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits, "train_range": self.train_range}


def _respond(layer: Any, inputs: Any, filters: Any, groups: int, index: int = 0) -> tf.Tensor:
    """The response on numbers rounded in range `index`."""
    filters = layer.range.quantize_filters(filters, index)
    return common.respond(layer, layer.range.quantize(inputs, index), filters, groups)


def _channel_axis(layer: Any) -> int:
    return 1 if layer.data_format == "channels_first" else 3


def _check_filter_groups(filter_groups: list[int], filters: int, channel_groups: int) -> None:
    count = max(filter_groups, default=-1) + 1
    if len(filter_groups) != filters or set(filter_groups) != set(range(count)):
        raise ValueError(
            "`filter_groups` must name a group for each filter, counted from 0 without gaps. "
            f"Received: filter_groups={filter_groups}, filters={filters}"
        )
    if count > 1 and channel_groups > 1:
        raise ValueError(
            "Filters in more than one group of scales need one group of channels. "
            f"Received: filter_groups={filter_groups}, groups={channel_groups}"
        )
