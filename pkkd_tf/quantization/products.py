"""Layers that multiply, with rounded weights."""

from typing import Any

import keras

from pkkd_tf.layers import common
from pkkd_tf.quantization.fake_quantize import check_bits, quantize_weights


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with rounded weights: symmetric, a scale an output channel.

    What it multiplies must be rounded before, by `FakeQuantize`. Formula and gradient:
    `pkkd_tf.quantization.quantize_weights`.

    Args:
        filters, kernel_size: and all arguments of `keras.layers.Conv2D`, by name.
        bits: int from 2 to 8.
        **kwargs: further arguments of `keras.layers.Conv2D`.

    Input shape:
        As of `keras.layers.Conv2D`.

    Output shape:
        As of `keras.layers.Conv2D`.

    Raises:
        ValueError: as `keras.layers.Conv2D`; `bits` out of its range.

    Example:
        >>> QuantizedConv2D(16, 3)(keras.random.normal((4, 8, 8, 3))).shape
        TensorShape([4, 6, 6, 16])
    """

    def __init__(self, filters: int, kernel_size: Any, *args: Any, bits: int = 8, **kwargs: Any):
        super().__init__(filters, kernel_size, *args, **kwargs)
        self.bits = check_bits(bits)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution with rounded weights."""
        return super().convolution_op(inputs, quantize_weights(kernel, self.bits))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with rounded weights, as `QuantizedConv2D`.

    Args:
        kernel_size: and all arguments of `keras.layers.DepthwiseConv2D`, by name.
        bits: int from 2 to 8.
        **kwargs: further arguments of `keras.layers.DepthwiseConv2D`.

    Input shape:
        As of `keras.layers.DepthwiseConv2D`.

    Output shape:
        As of `keras.layers.DepthwiseConv2D`.

    Raises:
        ValueError: as `keras.layers.DepthwiseConv2D`; `bits` out of its range.

    Example:
        >>> QuantizedDepthwiseConv2D(3)(keras.random.normal((4, 8, 8, 3))).shape
        TensorShape([4, 6, 6, 3])
    """

    def __init__(self, kernel_size: Any, *args: Any, bits: int = 8, **kwargs: Any):
        super().__init__(kernel_size, *args, **kwargs)
        self.bits = check_bits(bits)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the products, plus bias and activation if the layer has them."""
        del training
        kh, kw, channels, multiplier = shape = self.kernel.shape
        outputs = keras.ops.reshape(self.kernel, (kh, kw, 1, channels * multiplier))
        kernel = keras.ops.reshape(quantize_weights(outputs, self.bits), shape)
        window = self.strides, self.padding, self.data_format, self.dilation_rate
        return common.finish(self, keras.ops.depthwise_conv(inputs, kernel, *window))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with rounded weights, as `QuantizedConv2D`.

    Args:
        filters, kernel_size: and all arguments of `keras.layers.Conv2DTranspose`, by name.
        bits: int from 2 to 8.
        **kwargs: further arguments of `keras.layers.Conv2DTranspose`.

    Input shape:
        As of `keras.layers.Conv2DTranspose`.

    Output shape:
        As of `keras.layers.Conv2DTranspose`.

    Raises:
        ValueError: as `keras.layers.Conv2DTranspose`; `bits` out of its range.

    Example:
        >>> QuantizedConv2DTranspose(16, 2, strides=2)(keras.random.normal((4, 8, 8, 3))).shape
        TensorShape([4, 16, 16, 16])
    """

    def __init__(self, filters: int, kernel_size: Any, *args: Any, bits: int = 8, **kwargs: Any):
        super().__init__(filters, kernel_size, *args, **kwargs)
        self.bits = check_bits(bits)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the products, plus bias and activation if the layer has them."""
        del training
        outputs_last = keras.ops.swapaxes(self.kernel, 2, 3)
        kernel = keras.ops.swapaxes(quantize_weights(outputs_last, self.bits), 2, 3)
        products = keras.ops.conv_transpose(
            inputs,
            kernel,
            list(self.strides),
            self.padding,
            self.output_padding,
            self.data_format,
            self.dilation_rate,
        )
        return common.finish(self, products)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class QuantizedDense(keras.layers.Dense):
    """`keras.layers.Dense` with rounded weights, as `QuantizedConv2D`.

    Args:
        units: and all arguments of `keras.layers.Dense`, by name.
        bits: int from 2 to 8.
        **kwargs: further arguments of `keras.layers.Dense`.

    Input shape:
        As of `keras.layers.Dense`.

    Output shape:
        As of `keras.layers.Dense`.

    Raises:
        ValueError: as `keras.layers.Dense`; `bits` out of its range.

    Example:
        >>> QuantizedDense(10)(keras.random.normal((4, 64))).shape
        TensorShape([4, 10])
    """

    def __init__(self, units: int, *args: Any, bits: int = 8, **kwargs: Any):
        super().__init__(units, *args, **kwargs)
        self.bits = check_bits(bits)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the product, plus bias and activation if the layer has them."""
        del training
        product = keras.ops.matmul(inputs, quantize_weights(self.kernel, self.bits))
        return common.finish(self, product)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "bits": self.bits}
