"""Keras' DepthwiseConv2D with the adder response instead of the convolution."""

from typing import Any

import keras

from pkkd_tf.layers import common


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class AdderDepthwiseConv2D(common.Unquantized, keras.layers.DepthwiseConv2D):
    """Depthwise adder layer: `Y(m,n,k*M+t) = -sum_{i,j} |X(m+i, n+j, k) - F(i,j,k,t)|`.

    Each input channel `k` meets its own `M = depth_multiplier` filters (AdderNet's response,
    CVPR 2020, with as many groups as channels). Drop-in for `keras.layers.DepthwiseConv2D`: the
    same arguments in the same order, one appended; `use_bias=False` and N(0, 1) filters.

    Args:
        kernel_size: int or pair, pixels.
        strides: int or pair, pixels.
        padding: `"valid"` or `"same"`; a padded tap counts as `-|F|`.
        depth_multiplier: int, output channels an input channel.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int or pair, pixels between taps.
        activation, use_bias, depthwise_initializer, bias_initializer, depthwise_regularizer,
            bias_regularizer, activity_regularizer, depthwise_constraint, bias_constraint: as in
            `keras.layers.DepthwiseConv2D`.
        input_gradient: `"clipped"` (default) or `"sign"`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape:
        (N, H, W, C), or (N, C, H, W) with `channels_first`.

    Output shape:
        (N, P, Q, C * depth_multiplier), or (N, C * depth_multiplier, P, Q).

    Raises:
        ValueError: as `keras.layers.DepthwiseConv2D`; for an unknown `input_gradient`; for a
            quantized dtype policy.

    Example:
        >>> AdderDepthwiseConv2D(3, padding="same")(keras.random.normal((4, 8, 8, 6))).shape
        TensorShape([4, 8, 8, 6])
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = False,
        depthwise_initializer: Any = None,
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        input_gradient: str = "clipped",
        **kwargs: Any,
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            common.adder_initializer(depthwise_initializer),
            bias_initializer,
            depthwise_regularizer,
            bias_regularizer,
            activity_regularizer,
            depthwise_constraint,
            bias_constraint,
            **kwargs,
        )
        self.check_policy()
        self.input_gradient = common.check_input_gradient(input_gradient)

    def build(self, input_shape: Any) -> None:
        """Creates the filters (kh, kw, C, depth_multiplier) and marks them for the optimizer."""
        super().build(input_shape)
        common.mark_adder_filters(self.kernel)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        filters, channels = self.filters_and_groups()
        return common.finish(self, common.respond(self, inputs, filters, channels, training))

    def filters_and_groups(self) -> tuple[Any, int]:
        """As `pkkd_tf.ops.adder_conv2d` takes them: (kh, kw, 1, C * depth_multiplier), and C."""
        kh, kw, channels, multiplier = self.kernel.shape
        return keras.ops.reshape(self.kernel, (kh, kw, 1, channels * multiplier)), channels

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "input_gradient": self.input_gradient}
