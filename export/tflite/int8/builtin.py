"""The int8 forms of TFLite's own operators, as its quantization specification has them."""

from typing import Any

import numpy as np

from export.tflite.graph import Graph
from export.tflite.int8.scales import Scale
from export.tflite.int8.ties import JOINING

# Versions of the operators that take int8.
VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "TRANSPOSE_CONV": 4,
    "ADD": 2,
    "SUB": 3,
    "MUL": 2,
    "MEAN": 2,
    "MAX_POOL_2D": 2,
    "AVERAGE_POOL_2D": 2,
    "PAD": 2,
    "RELU": 2,
    "RELU6": 2,
    "TRANSPOSE": 2,
    "RESHAPE": 1,
    "EXPAND_DIMS": 1,
    "STRIDED_SLICE": 2,
    "SOFTMAX": 2,
    "LOGISTIC": 2,
    "TANH": 2,
    "LEAKY_RELU": 2,
    "PRELU": 1,
    "ELU": 1,
    "GELU": 2,
    "HARD_SWISH": 1,
    "REDUCE_MAX": 2,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "RESIZE_BILINEAR": 3,
    "CONCATENATION": 2,
    "MAXIMUM": 2,
    "MINIMUM": 2,
}
# Axis of the outputs in the filters of operators that have some.
OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
MOST_FILTER = 127
MOST_BIAS = 2**30


def quantize_builtin(graph: Graph, operator: Any, scales: dict[int, Scale]) -> None:
    """Rewrites a float builtin operator as its int8 form: version, filters, constants.

    Filters are symmetric, one scale an output; constants that are joined with a tensor have its
    scale, others one over their range.

    Args:
        graph: the network.
        operator: an operator named in `VERSIONS`.
        scales: of its tensors.
    """
    name = graph.name(operator)
    operator.inputs = list(operator.inputs)
    if name in OUTPUT_AXIS:
        _quantize_filters(graph, operator, scales[images_of(graph, operator)], OUTPUT_AXIS[name])
    else:
        joined = scales[operator.outputs[0]] if name in JOINING else None
        _quantize_constants(graph, operator, joined)
    operator.opcodeIndex = graph.operator_code(name, VERSIONS[name])


def images_of(graph: Graph, operator: Any) -> int:
    """The first computed tensor of an operator: TRANSPOSE_CONV has its output's shape before."""
    return int(operator.inputs[2 if graph.name(operator) == "TRANSPOSE_CONV" else 0])


def _quantize_filters(graph: Graph, operator: Any, x: Scale, axis: int) -> None:
    name = graph.tensor_name(operator.inputs[1])
    filters = graph.constant(operator.inputs[1]).astype(np.float64)
    place = max(operator.inputs.index(images_of(graph, operator)) + 1, 2)  # of the bias
    bias = _bias(graph, operator, place, filters.shape[axis])
    steps = _filter_steps(filters, bias, x.step, axis)
    shape = [-1 if i == axis else 1 for i in range(filters.ndim)]
    integers = np.clip(np.rint(filters / steps.reshape(shape)), -MOST_FILTER, MOST_FILTER)
    quantized = graph.add_constant(integers.astype(np.int8), name)
    graph.set_scale(quantized, steps, 0, axis)
    biases = graph.add_constant(np.rint(bias / (x.step * steps)).astype(np.int32), f"{name}/bias")
    graph.set_scale(biases, x.step * steps, 0)
    operator.inputs = [*operator.inputs[:place], biases]
    operator.inputs[1] = quantized


def _bias(graph: Graph, operator: Any, place: int, outputs: int) -> np.ndarray:
    """The bias, which stands behind images and filters; zeros where there is none."""
    if len(operator.inputs) <= place or operator.inputs[place] < 0:
        return np.zeros(outputs)
    return graph.constant(operator.inputs[place]).astype(np.float64)


def _filter_steps(filters: np.ndarray, bias: np.ndarray, step: float, axis: int) -> np.ndarray:
    """The step of each output's filters, large enough for its bias; float32's values."""
    others = tuple(i for i in range(filters.ndim) if i != axis)
    steps = np.abs(filters).max(others) / MOST_FILTER
    steps = np.maximum(steps, np.abs(bias) / (step * MOST_BIAS))
    return np.where(steps > 0, steps, 1.0).astype(np.float32).astype(np.float64)


def _quantize_constants(graph: Graph, operator: Any, joined: Scale | None) -> None:
    for place, number in enumerate(operator.inputs):
        values = None if number < 0 else graph.constant(number)
        if values is None or values.dtype != np.float32:
            continue
        scale = joined or Scale.of_values(values)
        constant = graph.add_constant(scale.quantized(values), graph.tensor_name(number))
        graph.set_scale(constant, scale.step, scale.zero)
        operator.inputs[place] = constant
