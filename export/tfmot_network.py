"""A trained network in Keras 2, for tensorflow-model-optimization to mark its layers."""

import os
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import keras
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import quantizers
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
)

import pkkd_tf
from export.program import ExportError
from export.tflite.responses import portable
from pkkd_tf.ops.geometry import make_geometry
from pkkd_tf.quantization.placement import sources

OUTPUT_CONFIG = default_8bit_quantize_configs.Default8BitOutputQuantizeConfig
CONVOLUTION = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
# The arguments that the twin of a layer takes over.
ARGUMENTS = {
    "AdderConv2D": (*CONVOLUTION, "use_bias", "input_gradient"),
    "Add": (),
    "BatchNormalization": ("axis", "momentum", "epsilon"),
    "Conv2D": (*CONVOLUTION, "use_bias"),
    "Dense": ("units", "use_bias"),
    "Flatten": (),
    "GlobalAveragePooling2D": ("keepdims",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "ReLU": (),
    "ZeroPadding2D": ("padding",),
}


class AdderConv2D(tf_keras.layers.Conv2D):
    """`pkkd_tf.layers.AdderConv2D` for Keras 2; `for_conversion` makes TFLite's operators of it."""

    for_conversion = False

    def __init__(self, *args: Any, input_gradient: str = "clipped", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.input_gradient = input_gradient

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The adder response by `pkkd_tf.ops`."""
        kernel = tf.convert_to_tensor(self.kernel)
        window = self.strides, self.padding.upper(), self.dilation_rate, self.groups
        if self.for_conversion:
            outputs = portable(inputs, kernel, make_geometry(*window))
        else:
            outputs = pkkd_tf.ops.adder_conv2d(inputs, kernel, *window, self.input_gradient)
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialisable."""
        return {**super().get_config(), "input_gradient": self.input_gradient}


class AdderQuantizeConfig(tfmot.quantization.keras.QuantizeConfig):
    """8 bits for the filters, one symmetric range; the batch normalization after it has its own."""

    quantizer = quantizers.LastValueQuantizer(8, per_axis=False, symmetric=True, narrow_range=True)

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        """The filters."""
        return [(layer.kernel, self.quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Puts the rounded filters in the place of the filters."""
        (layer.kernel,) = quantize_weights

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        """None: what follows has its own."""
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        """Nothing to put."""

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """None: the response goes on into batch normalization unrounded."""
        return []

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}


OBJECTS = {c.__name__: c for c in (AdderConv2D, AdderQuantizeConfig, OUTPUT_CONFIG)}


def twin(model: keras.Model) -> tf_keras.Model:
    """A tf_keras network of the same layers, names and weights.

    Raises:
        ExportError: a layer has no twin.
    """
    tensors: dict[str, Any] = {}
    for layer in model.layers:
        kind, inputs = type(layer).__name__, [tensors[s.name] for s in sources(layer)]
        if kind == "InputLayer":
            tensors[layer.name] = tf_keras.Input(layer.batch_shape[1:], name=layer.name)
            continue
        if kind not in ARGUMENTS or getattr(layer, "data_format", "channels_last")[-4:] != "last":
            raise ExportError(
                f"A layer must be channels_last and one of {sorted(ARGUMENTS)} to have a twin. "
                f"Received: layer={layer.name!r}, type={kind}"
            )
        config = layer.get_config()
        arguments = {name: config[name] for name in ARGUMENTS[kind]}
        kinds = {**vars(tf_keras.layers), "AdderConv2D": AdderConv2D}
        copy = kinds[kind](name=layer.name, **arguments)
        tensors[layer.name] = copy(inputs if kind == "Add" else inputs[0])
        copy.set_weights(layer.get_weights())
    ends = [tensor._keras_history.operation.name for tensor in (*model.inputs, *model.outputs)]
    return tf_keras.Model(*(tensors[name] for name in ends), name=model.name)


def annotate(model: tf_keras.Model) -> tf_keras.Model:
    """The network with fake quantisation in it, as tensorflow-model-optimization places it."""

    def mark(layer: Any) -> Any:
        config = None  # the library's own
        if isinstance(layer, AdderConv2D):
            config = AdderQuantizeConfig()
        elif isinstance(layer, tf_keras.layers.BatchNormalization):
            follows = isinstance(layer.input._keras_history.layer, AdderConv2D)
            config = OUTPUT_CONFIG() if follows else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    with tf_keras.utils.custom_object_scope(OBJECTS):
        marked = tf_keras.models.clone_model(model, clone_function=mark)
        return tfmot.quantization.keras.quantize_apply(marked)
