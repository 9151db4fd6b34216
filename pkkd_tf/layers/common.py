"""What the adder layers share: the marked filters, both data formats, bias and activation."""

import warnings
from typing import Any

import keras
import tensorflow as tf

from pkkd_tf.ops import adder_conv2d
from pkkd_tf.ops.adder_conv2d import INPUT_GRADIENTS

PACKAGE = "pkkd_tf"


class QuantizationError(ValueError, NotImplementedError):
    """An adder layer is to compute Keras' quantized products.

    `keras.Model.quantize` warns of a `NotImplementedError` and leaves such a layer as it is.
    """


class Unquantized:
    """Refuses Keras' quantization, which knows products and no L1 distance."""

    def check_policy(self: Any) -> None:
        """Raises `QuantizationError` for a dtype policy of Keras' quantization."""
        if self.quantization_mode is not None:
            self.refuse_quantization(self.quantization_mode, None)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Refuses."""
        self.refuse_quantization(mode, config)

    def quantized_build(self, input_shape: Any, mode: Any, config: Any = None) -> None:
        """Refuses: the dtype policy was set after the layer was made."""
        self.refuse_quantization(mode, config)

    def quantized_call(self: Any, *args: Any, **kwargs: Any) -> None:
        """Refuses: the dtype policy was set after the layer was made."""
        self.refuse_quantization(self.quantization_mode, None)

    def refuse_quantization(self, mode: Any, config: Any) -> None:
        """Raises `QuantizationError`."""
        raise QuantizationError(
            f"{type(self).__name__} cannot use Keras' quantized matrix products, since |x - w| "
            "needs one scale for both: use `python -m export.tflite --format=int8`, or "
            "`pkkd_tf.quantization.quantize_model`. "
            f"Received: mode={mode!r}, config={config!r}"
        )


def adder_initializer(given: Any = None) -> keras.initializers.Initializer:
    """What filters start with: N(0, 1), not scaled by the fan-in (official AdderNet code).

    Warns of `given` where it is scaled by the fan-in, as in the configuration of a convolution.
    """
    if given is None:
        return keras.initializers.RandomNormal(mean=0.0, stddev=1.0)
    given = keras.initializers.get(given)
    if isinstance(given, keras.initializers.VarianceScaling):
        warnings.warn(
            "Adder filters should start as N(0, 1), which is what they do without an initializer: "
            "one that is scaled by the fan-in is for products and slows the training. "
            "`pkkd_tf.models.to_adders` leaves it out. "
            f"Received: initializer={type(given).__name__}",
            stacklevel=3,
        )
    return given


def check_input_gradient(mode: str) -> str:
    """Returns `mode` if the op knows it, else raises `ValueError`."""
    if mode not in INPUT_GRADIENTS:
        raise ValueError(
            f"`input_gradient` must be one of {INPUT_GRADIENTS}. Received: input_gradient={mode!r}"
        )
    return mode


def mark_adder_filters(variable: keras.Variable) -> None:
    """Tells the optimizer that the adaptive local learning rate applies to `variable`."""
    variable.is_adder_filter = True  # type: ignore[attr-defined]
    # What tapes that watch by themselves give; `value` is a copy inside of another layer's call.
    if variable._value is not None:
        variable._value.is_adder_filter = True


def mark_again(layer: Any) -> None:
    """Marks what has no value yet when a layer is built while Keras only looks at its shapes."""
    for variable in layer._trainable_variables:
        if is_adder_filter(variable):
            mark_adder_filters(variable)


def is_adder_filter(variable: Any) -> bool:
    """Whether a layer marked `variable` as adder filters.

    Args:
        variable: `keras.Variable` or `tf.Variable`.

    Returns:
        Bool.

    Example:
        >>> is_adder_filter(pkkd_tf.models.resnet20().get_layer("stem_conv").kernel)
        False
    """
    return getattr(variable, "is_adder_filter", False)


def finish(layer: Any, outputs: Any) -> Any:
    """Adds the bias, if the layer has one, and applies its activation."""
    if layer.use_bias:
        shape = [1] * len(outputs.shape)
        shape[1 if getattr(layer, "data_format", "") == "channels_first" else -1] = -1
        outputs = keras.ops.add(outputs, keras.ops.reshape(layer.bias, shape))
    return outputs if layer.activation is None else layer.activation(outputs)


def l2_weight(layer: Any, training: bool | None) -> tf.Tensor | None:
    """What `anneal_l2` set for this step; None where nothing is mixed in or nothing trains."""
    weight = getattr(layer, "l2_weight", None)
    return weight() if training and weight and layer.trainable else None


def respond(
    layer: Any, inputs: Any, filters: Any, groups: int, training: bool | None = None
) -> tf.Tensor:
    """The adder response of a two-dimensional layer, in the layer's data format."""
    mark_again(layer)
    channels_first = layer.data_format == "channels_first"
    inputs = tf.transpose(inputs, [0, 2, 3, 1]) if channels_first else inputs
    outputs = adder_conv2d(
        inputs,
        filters,
        strides=layer.strides,
        padding=layer.padding.upper(),
        dilations=layer.dilation_rate,
        groups=groups,
        input_gradient=layer.input_gradient,
        l2_weight=l2_weight(layer, training),
    )
    return tf.transpose(outputs, [0, 3, 1, 2]) if channels_first else outputs
