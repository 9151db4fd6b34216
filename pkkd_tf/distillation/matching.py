"""Which layers of student and teacher are compared, checked before anything is trained."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from pkkd_tf.graphs import calls
from pkkd_tf.layers import AdderConv2D, AdderDepthwiseConv2D

# Keras' layers that draw an image anew at each call.
AUGMENTATIONS = {
    "AugMix",
    "CutMix",
    "MixUp",
    *(name for name in dir(keras.layers) if name.startswith("Rand")),
}


def adder_layers(model: keras.Model) -> dict[str, Any]:
    """The layers of `model` that hold adder filters, by name, in the model's order.

    One inside of another network or layer is called "outer/inner".
    """
    found = {}
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if filters_of(layer) is not None:
            found[layer.name] = layer
        found |= {f"{layer.name}/{name}": inner for name, inner in adder_layers(layer).items()}
    return found


def filters_of(layer: Any) -> Any:
    """The adder filters of `layer`, or None if it has none."""
    for variable in layer._trainable_variables:
        if getattr(variable, "is_adder_filter", False):
            return variable
    return None


def fan_in_of(layer: Any) -> int:
    """How many terms a response of the adder layer `layer` sums up."""
    shape = filters_of(layer).shape
    return math.prod(shape[:2] if isinstance(layer, AdderDepthwiseConv2D) else shape[:-1])


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def check_functional(model: Any, role: str) -> None:
    """Raises `ValueError` unless the responses of the layers of `model` and its logits can be read.

    That is a functional Keras model, or a Sequential one that was built, without a softmax.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"The {role} must be a functional Keras model with known inputs and outputs. "
            f"Received: {role}={model!r}"
        )
    if any("call" in vars(kind) for kind in type(model).__mro__ if not _is_of_keras(kind)):
        raise ValueError(
            f"The {role} must compute what its layers do, of which its outputs are made; another "
            f"`call` would be passed over in training. Received: {role}={model!r}"
        )
    last = model.outputs[0]._keras_history.operation
    while getattr(last, "outputs", None):  # a network inside of this one
        last = last.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    if type(last).__name__ == "Softmax" or activation is keras.activations.softmax:
        raise ValueError(
            f"The {role} must end in logits: the losses apply the softmax themselves. "
            f"Received: {role}={model.name!r}, whose last layer {last.name!r} is a softmax"
        )
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ValueError(
            f"The {role} must end in logits (N, classes) of at least 2 classes, also for a yes or "
            f"no. Received: {role}={model.name!r}, output shape={shape}"
        )


def pass_through(model: keras.Model) -> tuple[Any, dict[str, tuple[Any, Any, Any]], Any]:
    """One symbolic pass through `model`.

    Returns:
        Its input; by name each layer with its input and its output; the logits.
    """
    if not isinstance(model, keras.Sequential):
        return model.input, _calls(model), model.outputs[0]
    value, found = model.inputs[0], {}
    for layer in model.layers:  # `layer.output` is of an earlier pass if layers were added singly
        found[layer.name] = layer, value, (value := layer(value))
    return model.inputs[0], found, value


def _calls(model: keras.Model) -> dict[str, tuple[Any, Any, Any]]:
    """The first call of each layer in a functional model, which may not be its first of all."""
    found: dict[str, tuple[Any, Any, Any]] = {}
    for call in calls(model, inside=False):
        ends = (x[0] if len(x) == 1 else x for x in (call.inputs, call.outputs))
        found.setdefault(call.layer.name, (call.layer, *ends))
    return {layer.name: found[layer.name] for layer in model.layers}


def _output_shapes(model: keras.Model) -> dict[str, Any]:
    if isinstance(model, keras.Sequential):
        return {layer.name: layer.output.shape for layer in model.layers}
    return {name: getattr(output, "shape", None) for name, (*_, output) in _calls(model).items()}


def match_layers(
    student: keras.Model, teacher: keras.Model, names: Sequence[str] | None
) -> list[str]:
    """Names of the layers to compare: adder layers of the student, their twins in the teacher.

    Args:
        student: functional model.
        teacher: functional model; the twin of a layer has its name and its output shape.
        names: layer names, or None for every two-dimensional adder layer that has a twin.

    Returns:
        The names in the student's order.

    Warns of adder layers inside of other networks, whose outputs cannot be read.

    Raises:
        ValueError: no layer can be matched, or a named one is missing, is no adder layer of the
            student, or differs in shape.

    Example:
        >>> student = pkkd_tf.models.build("digits_resnet", "adder")
        >>> teacher = pkkd_tf.models.build("digits_resnet", "convolution")
        >>> match_layers(student, teacher, None)[0]
        'stage1_block1_conv1'
    """
    theirs, shapes = _output_shapes(teacher), _output_shapes(student)
    ours = {
        layer.name: shapes[layer.name]
        for layer in student.layers
        if isinstance(layer, AdderConv2D | AdderDepthwiseConv2D)
    }
    chosen = [n for n in ours if n in theirs] if names is None else list(names)
    if names is None and chosen and (nested := _nested(student)):
        warnings.warn(
            "Adder layers inside of another network are not compared with the teacher's: call "
            "their layers one by one, or name `matched_layers` to choose the others. Received: "
            f"nested={nested}, compared={chosen}",
            stacklevel=4,
        )
    for name in chosen:
        _check_pair(name, ours, theirs)
    if not chosen:
        raise ValueError(
            "At least one adder layer of the student must have a layer of the same name in the "
            'teacher, both outside of other networks; method="kd" compares logits alone. Received: '
            f"student layers={list(ours)}, inside of others={_nested(student)}, "
            f"teacher layers={list(theirs)}"
        )
    return [name for name in ours if name in chosen]


def _nested(model: keras.Model) -> list[str]:
    return [name for name in adder_layers(model) if "/" in name]


def check_pair(student: keras.Model, teacher: keras.Model) -> None:
    """Raises `ValueError` unless teacher and student take the same images to the same logits."""
    received = {
        "student input": student.input_shape,
        "teacher input": teacher.input_shape,
        "student output": student.output_shape,
        "teacher output": teacher.output_shape,
    }
    if student.input_shape != teacher.input_shape or student.output_shape != teacher.output_shape:
        raise ValueError(
            "Student and teacher must have equal input and output shapes. Received: "
            + ", ".join(f"{name}={shape}" for name, shape in received.items())
        )
    drawing = [
        f"{network.name}/{layer.name}"
        for network in (student, teacher)
        for layer in network._flatten_layers(include_self=False)
        if type(layer).__name__ in AUGMENTATIONS
    ]
    if drawing:
        warnings.warn(
            "Augmentation belongs in the data: layers of the networks draw for each of them, so "
            f"student and teacher see different images. Received: layers={drawing}",
            stacklevel=4,
        )


def _check_pair(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if name not in ours or name not in theirs:
        raise ValueError(
            "A matched layer must be an adder layer of the student and have a layer of the same "
            f"name in the teacher. Received: {name!r}, student layers={list(ours)}, "
            f"teacher layers={list(theirs)}"
        )
    shapes = ours[name], theirs[name]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Matched layers must have equal output shapes. Received: layer={name!r}, "
            f"student={shapes[0]}, teacher={shapes[1]}"
        )
