"""Keras' Dense with the adder response instead of the matrix product."""

from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.layers import common
from pkkd_tf.ops import adder_conv2d


@keras.saving.register_keras_serializable(package=common.PACKAGE)
class AdderDense(common.Unquantized, keras.layers.Dense):
    """Densely connected adder layer: `y_t = -sum_k |x_k - w_kt|` (AdderNet, CVPR 2020).

    Drop-in for `keras.layers.Dense`: the same arguments in the same order, one appended;
    `use_bias=False` and N(0, 1) weights. The gradients are those of `pkkd_tf.ops.adder_conv2d`
    with a 1x1 window.

    Args:
        units: int, number of outputs.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer,
            bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, lora_rank,
            lora_alpha: as in `keras.layers.Dense`.
        quantization_config: must be None; Keras' quantized products know no L1 distance.
        input_gradient: `"clipped"` (default) or `"sign"`.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Input shape:
        (N, ..., K).

    Output shape:
        (N, ..., units).

    Raises:
        ValueError: as `keras.layers.Dense`; for an unknown `input_gradient`; for quantization.

    Example:
        >>> AdderDense(10)(keras.random.normal((4, 64))).shape
        TensorShape([4, 10])
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = False,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        input_gradient: str = "clipped",
        **kwargs: Any,
    ):
        super().__init__(
            units,
            activation,
            use_bias,
            common.adder_initializer(kernel_initializer),
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            lora_rank,
            lora_alpha,
            **kwargs,
        )
        if quantization_config is not None:
            self.refuse_quantization(None, quantization_config)
        self.check_policy()
        self.input_gradient = common.check_input_gradient(input_gradient)

    def build(self, input_shape: Any) -> None:
        """Creates the weights (K, units) and marks them for the optimizer."""
        super().build(input_shape)
        common.mark_adder_filters(self._kernel)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the response, plus bias and activation if the layer has them."""
        weight, inputs = common.l2_weight(self, training), self.real(inputs)
        return common.finish(self, self.respond(inputs, self.filters_of_one_pixel(), weight))

    def real(self, inputs: Any) -> tf.Tensor:
        """Whole numbers and sparse tensors as `keras.layers.Dense` takes them, too; dense."""
        inputs = tf.sparse.to_dense(inputs) if isinstance(inputs, tf.SparseTensor) else inputs
        inputs = tf.convert_to_tensor(inputs)
        return inputs if inputs.dtype.is_floating else tf.cast(inputs, self.compute_dtype)

    def filters_of_one_pixel(self) -> tf.Tensor:
        """The weights as `pkkd_tf.ops.adder_conv2d` takes them, (1, 1, K, units)."""
        return keras.ops.reshape(self.kernel, (1, 1, *self.kernel.shape))

    def respond(self, inputs: Any, filters: Any, l2_weight: Any = None) -> tf.Tensor:
        """The adder response of every row of `inputs` to such filters."""
        common.mark_again(self)
        outer, size = tf.shape(inputs)[:-1], inputs.shape[-1]
        rows = tf.reshape(inputs, [tf.reduce_prod(outer), 1, 1, size])
        options = {"input_gradient": self.input_gradient, "l2_weight": l2_weight}
        outputs = adder_conv2d(rows, filters, **options)
        outputs = tf.reshape(outputs, tf.concat([outer, [self.units]], 0))
        outputs.set_shape([*inputs.shape[:-1], self.units])
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, serialisable."""
        return {**super().get_config(), "input_gradient": self.input_gradient}
