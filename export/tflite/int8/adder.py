"""The int8 form of one adder operator: batch norm, residual, ReLU and scales in five integers."""

from typing import Any

import numpy as np

from export.program import ExportError
from export.tflite.graph import Graph, set_options
from export.tflite.int8.scales import AdderLayer, Scale
from pkkd_tf.quantization.integer import LEAST, MOST_BIAS, MOST_SHIFT

MOST_MULTIPLIER = 2**31 - 1
FLOAT_OPTIONS = ("affine", "relu", "relu6", "residual")
ERROR_OPERATIONS = 1 << 28  # |x - f| a layer, for its mean errors


def quantize_adder(
    graph: Graph, operator: Any, scales: dict[int, Scale], sample: np.ndarray | None
) -> None:
    """Rewrites a float operator AdderConv2D as the int8 one of `pkkd_tf.quantization.integer`.

    y = relu((response + correction) * scale + offset + residual) in units of the output's step is
    `S * m + R * residual + b` with real m, R, b; these times 2**shift are the integers.
    The correction holds the cut off part of the filters, and for each output the mean error of the
    rounded response on the calibration images.

    Args:
        graph: the network.
        operator: the operator, float tensors still.
        scales: of its tensors.
        sample: its input on calibration images, float32; None: mean errors are not corrected.

    Raises:
        ExportError: a batch normalization is so steep that no integers hold it.
    """
    layer, x = AdderLayer(graph, operator), scales[operator.inputs[0]]
    y = scales[operator.outputs[0]]
    correction = -layer.cut_off(x)
    if sample is not None:
        sample = layer.images(sample, ERROR_OPERATIONS)
        difference = layer.response(sample) - layer.response(sample, x)
        correction += difference.mean((0, 1, 2), dtype=np.float64)
    multiplier = -layer.scale * x.step / y.step
    bias = (correction * layer.scale + layer.offset) / y.step + y.zero
    residual = 0.0
    if layer.options.get("residual"):
        other = scales[operator.inputs[-1]]
        residual = other.step / y.step
        bias -= residual * other.zero
    integers = fixed_point(multiplier, bias, residual)
    _write(graph, operator, layer, x, y, integers)


def fixed_point(
    multiplier: np.ndarray, bias: np.ndarray, residual: float
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Integers m, b, R and the shift for `(S * m + R * r + b) >> shift`, rounding half included.

    The shift is the largest at which everything fits, so a product's relative error is at most
    2**-30 where its factor is the layer's largest.

    Example:
        >>> fixed_point(np.array([-0.5]), np.array([3.0]), 0.25)
        (array([-1073741824], dtype=int32), array([7516192768]), 536870912, 31)
    """
    largest = max(float(np.abs(multiplier).max()), abs(residual), 1e-9)
    shift = min(MOST_SHIFT, int(np.floor(np.log2(MOST_MULTIPLIER / largest))))
    shift = min(shift, int(np.floor(np.log2(MOST_BIAS / max(np.abs(bias).max(), 1.0)))) - 1)
    if shift < 1:
        raise ExportError(
            "An adder layer's batch normalization must be such that int8 outputs can show it. "
            f"Received: largest factor={largest:.3g} output steps for one input step"
        )
    unit = 2.0**shift
    integers = np.rint(multiplier * unit).astype(np.int32)
    biases = np.rint(bias * unit).astype(np.int64) + (1 << (shift - 1))
    return integers, biases, int(np.rint(residual * unit)), shift


def _write(
    graph: Graph, operator: Any, layer: AdderLayer, x: Scale, y: Scale, integers: Any
) -> None:
    multiplier, bias, residual, shift = integers
    name = graph.tensor_name(operator.inputs[1])
    filters = graph.add_constant(x.quantized(layer.filters), name)
    graph.set_scale(filters, x.step, x.zero)
    inputs = [operator.inputs[0], filters]
    inputs.append(graph.add_constant(multiplier, f"{name}/multiplier"))
    inputs.append(graph.add_constant(bias, f"{name}/bias"))
    options = {k: v for k, v in layer.options.items() if k not in FLOAT_OPTIONS}
    six = y.zero + int(np.rint(6 / y.step)) if layer.options.get("relu6") else y.high
    options |= {"zero": x.zero, "shift": shift, "high": min(y.high, six)}
    options["low"] = y.zero if layer.options.get("relu") else LEAST
    if layer.options.get("residual"):
        inputs.append(operator.inputs[-1])
        options |= {"residual": 1, "residual_multiplier": residual}
    operator.inputs = inputs
    set_options(operator, options)
