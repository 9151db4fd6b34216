"""Keras' Conv2D with the adder response instead of the convolution."""

from typing import Any

import keras

from pkkd_tf.layers import common


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class AdderConv2D(common.Unquantized, keras.layers.Conv2D):
    """2D adder layer: `Y(m,n,t) = -sum_{i,j,k} |X(m+i, n+j, k) - F(i,j,k,t)|` (AdderNet, 2020).

    Drop-in for `keras.layers.Conv2D`: the same arguments in the same order, one appended. Two
    defaults differ, as in the official code: `use_bias=False` and filters drawn from N(0, 1).
    The response is never positive and about `-fan_in` at the start: let batch normalization
    follow. Gradients are the ones stated in `pkkd_tf.ops.adder_conv2d`; train the layer with
    `pkkd_tf.optimizers.AdderSGD`, which gives its filters their adaptive local learning rate.

    Args:
        filters: int, number of output channels.
        kernel_size: int or pair, pixels.
        strides: int or pair, pixels.
        padding: `"valid"` or `"same"`; a padded tap counts as `-|F|`. For symmetric padding at
            stride 2 put a `keras.layers.ZeroPadding2D` before a `"valid"` layer.
        data_format: `"channels_last"` or `"channels_first"` (transposes around the op).
        dilation_rate: int or pair, pixels between taps.
        groups: int, channel groups.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: as in
            `keras.layers.Conv2D`.
        input_gradient: `"clipped"` (default) or `"sign"`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape:
        (N, H, W, C), or (N, C, H, W) with `channels_first`.

    Output shape:
        (N, P, Q, filters), or (N, filters, P, Q).

    Raises:
        ValueError: as `keras.layers.Conv2D`; for an unknown `input_gradient`; for a quantized
            dtype policy.

    Example:
        >>> layer = AdderConv2D(16, 3, padding="same")
        >>> layer(keras.random.normal((4, 32, 32, 8))).shape
        TensorShape([4, 32, 32, 16])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = False,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        input_gradient: str = "clipped",
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            activation,
            use_bias,
            common.adder_initializer(kernel_initializer),
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )
        self.check_policy()
        self.input_gradient = common.check_input_gradient(input_gradient)

    def build(self, input_shape: Any) -> None:
        """Creates the filters (kh, kw, C / groups, filters) and marks them for the optimizer."""
        super().build(input_shape)
        common.mark_adder_filters(self._kernel)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        return common.finish(self, common.respond(self, inputs, self.kernel, self.groups, training))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "input_gradient": self.input_gradient}
