"""From a Keras network to the bytes of a `.tflite` file."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.outputs import has_names, named
from export.program import ExportError, tracing
from export.tflite.dilation import join_dilated
from export.tflite.fusion import fuse
from export.tflite.responses import custom, portable
from export.tflite.stand_ins import with_response

FLOAT_FORMATS = ("portable", "custom_op")
FORMATS = (*FLOAT_FORMATS, "int8")


def convert(model: keras.Model, format: str) -> bytes:
    """Converts a network to TFLite, float32, for any number of images.

    Args:
        model: a functional or sequential network of images (N, H, W, C), in float32. Outputs
            keep their names (`export.outputs.output_names`) in the file's signature.
        format: `"portable"`, builtin operators only, or `"custom_op"`, one operator AdderConv2D a
            layer with what follows it fused in (see `export.tflite.fusion`).

    Returns:
        Bytes of the `.tflite` file.

    Raises:
        ValueError: the format is unknown.
        ExportError: the network holds something that TFLite cannot, or cannot become a graph.

    Example:
        >>> data = convert(pkkd_tf.models.build("digits_resnet"), "portable")
    """
    if format not in FLOAT_FORMATS:
        raise ValueError(f"`format` must be one of {FLOAT_FORMATS}. Received: format={format!r}")
    _check_ends(model)
    stand_in = with_response(model, portable if format == "portable" else custom)
    data = join_dilated(_convert(stand_in, allow_custom_ops=format == "custom_op"))
    return data if format == "portable" else fuse(data)


def convert_int8(model: keras.Model, images: np.ndarray) -> bytes:
    """TFLite's own full int8 of a network without adder layers: the twin to compare with.

    Args:
        model: as of `convert`.
        images: float32 array (N, H, W, C), calibration images.

    Returns:
        Bytes of the `.tflite` file; input and output are int8.

    Raises:
        ExportError: the network holds something that TFLite cannot.
    """
    _check_ends(model)
    return _convert(
        model,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images),
        target_spec=tf.lite.TargetSpec([tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
    )


def _check_ends(model: keras.Model) -> None:
    inputs, outputs = (getattr(model, side, None) or [] for side in ("inputs", "outputs"))
    if len(inputs) > 1 or (outputs and not has_names(model)):
        raise ExportError(
            "A network for TFLite must map one tensor to one other, or to a list or dict of tensors"
            ". Received: "
            f"model={model.name!r}, inputs={[x.shape for x in inputs]}, "
            f"outputs={[y.shape for y in outputs]}"
        )


def _convert(model: keras.Model, **options: Any) -> bytes:
    holder = _as_module(model)
    with tracing(model):
        function = holder.network.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    for name, value in options.items():
        setattr(converter, name, value)
    try:
        return converter.convert()
    except Exception as error:  # the converter raises its own types, and bare ones
        raise ExportError(
            "Every layer of the network must be one that TFLite knows. "
            f"Received: {_first_line(error)}"
        ) from error


def _as_module(model: keras.Model) -> tf.Module:
    """The network as a function of images alone, held by an object.

    With one, it goes through a SavedModel, which keeps the function of the custom operator whole.
    """
    shape = [None, *model.inputs[0].shape[1:]]
    trained = [variable.numpy() for variable in model.trainable_variables]
    other = [variable.numpy() for variable in model.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "images")], autograph=False)
    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        weights = ([tf.constant(value) for value in group] for group in (trained, other))
        outputs, _ = model.stateless_call(*weights, images, training=False)
        return named(model, outputs)

    module = tf.Module()
    module.network = network
    return module


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
