"""The adder's dense layer in rounded numbers."""

from typing import Any

import keras

from pkkd_tf.layers import AdderDense, common
from pkkd_tf.quantization.fake_quantize import check_bits
from pkkd_tf.quantization.shared_range import SharedRange


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedAdderDense(AdderDense):
    """`AdderDense` in rounded numbers, as `QuantizedAdderConv2D` of one pixel with one range.

    Args:
        units: and all arguments of `AdderDense`, by name.
        bits: int from 2 to 8.
        train_range: bool, whether optimizers change the range.
        **kwargs: further arguments of `AdderDense`.

    Input shape:
        As of `AdderDense`.

    Output shape:
        As of `AdderDense`.

    Raises:
        ValueError: as `AdderDense`; `bits` out of its range.

    Example:
        >>> QuantizedAdderDense(10, bits=6)(keras.random.normal((4, 64))).shape
        TensorShape([4, 10])
    """

    def __init__(
        self, units: int, *args: Any, bits: int = 8, train_range: bool = False, **kwargs: Any
    ):
        super().__init__(units, *args, **kwargs)
        self.bits, self.train_range = check_bits(bits), train_range

    def build(self, input_shape: Any) -> None:
        """Creates the filters, scale and zero point."""
        super().build(input_shape)
        self.range = SharedRange(self, self.bits, 1, self.train_range)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        del training
        filters = self.range.quantize_filters(self.filters_of_one_pixel(), 0)
        return common.finish(self, self.respond(self.range.quantize(self.real(inputs), 0), filters))

    def save_own_variables(self, store: Any) -> None:
        """Saves the range too: Keras' dense layer knows of filters and bias alone."""
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
        return {**super().get_config(), "bits": self.bits, "train_range": self.train_range}
