"""A network whose adder layers respond in another form, everything else as it was."""

from typing import Any

import keras
import tensorflow as tf

from export.program import ExportError, cloned
from export.tflite.responses import Response
from pkkd_tf.layers import ADDER_LAYERS, AdderConv2D, AdderDense, AdderDepthwiseConv2D, common
from pkkd_tf.ops.geometry import make_geometry
from pkkd_tf.quantization.layers import FakeQuantize
from pkkd_tf.quantization.network import PLAIN
from pkkd_tf.quantization.placement import is_nearest

ROUNDED_LAYERS = (FakeQuantize, *PLAIN)


def has_adder_layers(model: keras.Model) -> bool:
    """Whether a network, or one inside it, holds an adder layer."""
    return any(isinstance(layer, ADDER_LAYERS) for layer in model._flatten_layers())


def rounded_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a network, or of one inside it, that compute in rounded numbers."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, ROUNDED_LAYERS)]


def with_response(model: keras.Model, response: Response) -> keras.Model:
    """Copies a network; its adder layers compute their response by `response`.

    Args:
        model: a functional or sequential network, built.
        response: function of images, filters and geometry, as `export.tflite.responses.portable`.

    Returns:
        A `keras.Model` with the weights of `model`.

    Raises:
        ExportError: the network is of another kind, which Keras cannot copy, or an adder layer
            is inside a layer of another kind.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = _stand_in(type(layer), response) if isinstance(layer, ADDER_LAYERS) else type(layer)
        kind = NearestUpSampling if is_nearest(layer) else kind
        kind = DenseOfRows if kind is keras.layers.Dense else kind
        return kind.from_config(layer.get_config())

    copied = cloned(model, copy)
    _check_exchanged(copied)
    return copied


class NearestUpSampling(keras.layers.UpSampling2D):
    """Repeats pixels by one operation of TFLite's, where Keras takes eight."""

    def call(self, inputs: Any) -> Any:
        """Returns the larger images; the nearest centre is never a tie."""
        sizes = inputs.shape[1:3]
        if None in sizes:
            return super().call(inputs)
        larger = [size * factor for size, factor in zip(sizes, self.size)]
        return tf.image.resize(inputs, larger, "nearest")


class DenseOfRows(keras.layers.Dense):
    """Multiplies rows, where Keras computes shapes around a product of more axes than two."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Returns what the layer does."""
        shape = [-1 if size is None else size for size in inputs.shape]
        if len(shape) == 2 or -1 in shape[1:]:
            return super().call(inputs, training=training)
        rows = super().call(tf.reshape(inputs, [-1, shape[-1]]), training=training)
        return tf.reshape(rows, [*shape[:-1], self.units])


def _check_exchanged(model: keras.Model) -> None:
    left = [
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, ADDER_LAYERS) and not hasattr(layer, "responds_by")
    ]
    if left:
        raise ExportError(
            "Adder layers must be layers of a functional or sequential network, so that they can "
            f"be exchanged, not parts of a layer of another kind. Received: adder layers={left}"
        )


def _stand_in(layer_class: type, response: Response) -> type:
    respond = {AdderDense: _dense, AdderDepthwiseConv2D: _depthwise, AdderConv2D: _conv}
    method = next(m for kind, m in respond.items() if issubclass(layer_class, kind))

    def call(self: Any, inputs: Any, training: Any = None) -> Any:
        del training
        return common.finish(self, method(self, inputs, response))

    return type(layer_class.__name__, (layer_class,), {"call": call, "responds_by": response})


def _dense(layer: AdderDense, inputs: tf.Tensor, response: Response) -> tf.Tensor:
    shape = [-1 if size is None else size for size in inputs.shape]
    if shape[1:].count(-1):
        raise ExportError(
            "AdderDense is exported for inputs of a known shape, except the batch. "
            f"Received: layer={layer.name!r}, input shape={inputs.shape}"
        )
    size = shape[-1]
    filters = keras.ops.reshape(layer.kernel, (1, 1, size, layer.units))
    outputs = response(
        tf.reshape(inputs, [-1, 1, 1, size]), filters, make_geometry(1, "VALID", 1, 1)
    )
    return tf.reshape(outputs, [*shape[:-1], layer.units])


def _depthwise(layer: AdderDepthwiseConv2D, inputs: Any, response: Response) -> tf.Tensor:
    return _images(layer, inputs, *layer.filters_and_groups(), response)


def _conv(layer: AdderConv2D, inputs: Any, response: Response) -> tf.Tensor:
    return _images(layer, inputs, keras.ops.convert_to_tensor(layer.kernel), layer.groups, response)


def _images(layer: Any, inputs: Any, filters: Any, groups: int, response: Response) -> tf.Tensor:
    channels_first = layer.data_format == "channels_first"
    inputs = tf.transpose(inputs, [0, 2, 3, 1]) if channels_first else inputs
    geometry = make_geometry(layer.strides, layer.padding.upper(), layer.dilation_rate, groups)
    outputs = response(inputs, filters, geometry)
    return tf.transpose(outputs, [0, 3, 1, 2]) if channels_first else outputs
