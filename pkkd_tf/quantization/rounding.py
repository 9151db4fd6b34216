"""The layer that rounds a tensor between two operators."""

from typing import Any

import keras

from pkkd_tf.layers import common
from pkkd_tf.quantization.fake_quantize import check_bits
from pkkd_tf.quantization.shared_range import SharedRange

SUFFIX = "_quantize"  # to the name of the layer whose output is rounded


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to the `2^bits` levels of one range, in floating point.

    Stands where a deployed network keeps a tensor in integers between two operators. Formula and
    gradients: `pkkd_tf.quantization.fake_quantize`.

    Args:
        bits: int from 2 to 8.
        train_range: bool, whether optimizers change the range; by default it is what calibration
            made it.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape:
        (N, ...).

    Output shape:
        The same.

    Raises:
        ValueError: `bits` out of its range.

    Example:
        >>> layer = FakeQuantize(bits=4)
        >>> layer.build((None, 3))
        >>> layer.range.assign([(0.0, 7.5)])
        >>> layer(np.array([[-1.0, 0.3, 9.0]]))     # [[0.0, 0.5, 7.5]]
    """

    def __init__(self, bits: int = 8, train_range: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.bits, self.train_range = check_bits(bits), train_range

    def build(self, input_shape: Any) -> None:
        """Creates scale and zero point."""
        self.range = SharedRange(self, self.bits, 1, self.train_range)

    def call(self, inputs: Any) -> Any:
        """Returns the rounded tensor."""
        return self.range.quantize(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits, "train_range": self.train_range}
