"""From the float form with one operator a layer to int8 end to end."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.program import ExportError
from export.tflite.graph import Graph
from export.tflite.int8 import adder, arithmetic, builtin, choice, scales
from export.tflite.int8.adder import quantize_adder
from export.tflite.int8.known import Known
from export.tflite.int8.observation import Observation
from export.tflite.int8.preparation import join_scale_and_offset, take_in_relu6
from export.tflite.int8.scales import Scale
from export.tflite.int8.ties import SAME_SCALE
from export.tflite.responses import CUSTOM_OPERATOR
from pkkd_tf.quantization.integer import MOST

# Of integers, sizes of images, which stay what they are.
SIZES = ("SHAPE", "STRIDED_SLICE", "PACK", *arithmetic.OF_SIZES)
BITS = (2, 8)


def quantize(
    data: bytes,
    images: np.ndarray,
    delegate: str | os.PathLike | None,
    bits: int = 8,
    known: Known | None = None,
) -> bytes:
    """Quantizes a network after its training: all operators and tensors int8, input and output too.

    Args:
        data: bytes of a float `.tflite` file with fused operators AdderConv2D.
        images: float32 array (N, H, W, C), calibration images as the network takes them; ranges and
            mean errors are measured on them.
        delegate: library that computes AdderConv2D.
        bits: 2 to 8. With less than 8, what adder layers read, and their filters, take only
            `2**bits` of the 256 values: the accuracy of such a network, not its speed.
        known: ranges that are known already, after a fine-tuning in rounded numbers; those of the
            others are searched. Batch normalization then knows the mean errors of rounding, and
            they are not corrected again.

    Returns:
        Bytes of the int8 file.

    Raises:
        ValueError: `bits` is out of its range.
        ExportError: an operator has no int8 form here.

    Example:
        >>> quantize(convert(student, "custom_op"), images, "libadder_delegate.so")
    """
    if not BITS[0] <= bits <= BITS[1]:
        raise ValueError(f"`bits` must be from {BITS[0]} to {BITS[1]}. Received: bits={bits}")
    data = join_scale_and_offset(data)
    graph = Graph(data)
    _check_operators(graph)
    observed = Observation(data, images, delegate, _read_by_adders(graph))
    take_in_relu6(graph)
    known = known or Known()
    chosen = choice.choose(graph, observed, bits, known)
    _quantize_operators(graph, chosen, None if known.filters else observed.samples)
    _quantize_tensors(graph, chosen)
    graph.drop_unread()
    return graph.to_bytes()


def _read_by_adders(graph: Graph) -> dict[int, Callable[[np.ndarray], int]]:
    """What adder layers read, and of how many images the one that takes most of them does."""
    layers: dict[int, list[scales.AdderLayer]] = {}
    for operator in graph.named(CUSTOM_OPERATOR):
        layers.setdefault(int(operator.inputs[0]), []).append(scales.AdderLayer(graph, operator))
    most = max(choice.SEARCH_OPERATIONS, adder.ERROR_OPERATIONS)

    def wanted(readers: list[scales.AdderLayer]) -> Callable[[np.ndarray], int]:
        return lambda x: max(reader.most_images(x, most) for reader in readers)

    return {tensor: wanted(readers) for tensor, readers in layers.items()}


def _check_operators(graph: Graph) -> None:
    known = sorted({CUSTOM_OPERATOR, *builtin.VERSIONS})
    names = {graph.name(o) for o in graph.operators if not _computes_sizes(graph, o)}
    unknown = sorted(names - set(known))
    if unknown:
        raise ExportError(
            f"Operators of an int8 network must be among {', '.join(known)}. "
            f"Received: {', '.join(unknown)}"
        )


def _computes_sizes(graph: Graph, operator: Any) -> bool:
    integers = graph.dtype(operator.outputs[0]) in (np.int32, np.int64)
    return integers and graph.name(operator) in SIZES


def _quantize_operators(
    graph: Graph, chosen: dict[int, Scale], samples: dict[int, np.ndarray] | None
) -> None:
    for operator in list(graph.operators):
        if graph.name(operator) == CUSTOM_OPERATOR:
            sample = None if samples is None else samples[int(operator.inputs[0])]
            quantize_adder(graph, operator, chosen, sample)
        elif not _computes_sizes(graph, operator):
            builtin.quantize_builtin(graph, operator, chosen)


def _quantize_tensors(graph: Graph, chosen: dict[int, Scale]) -> None:
    for tensor, scale in chosen.items():
        graph.set_type(tensor, np.int8)
        graph.set_scale(tensor, scale.step, scale.zero)
    for tensor, scale in chosen.items():
        if scale.high < MOST and not _is_bounded(graph, tensor):
            _bound(graph, tensor, scale)


def _is_bounded(graph: Graph, tensor: int) -> bool:
    producer = graph.producer(tensor)
    return producer is not None and graph.name(producer) in (CUSTOM_OPERATOR, *SAME_SCALE)


def _bound(graph: Graph, tensor: int, scale: Scale) -> None:
    """Cuts a tensor off at the largest of its `2**bits` values, for all who read it."""
    name = f"{graph.tensor_name(tensor)}/bounded"
    bounded = graph.add_tensor(graph.shape(tensor), np.int8, name)
    largest = graph.add_constant(np.array([scale.high], np.int8), f"{name}/largest")
    for number in (bounded, largest):
        graph.set_scale(number, scale.step, scale.zero)
    producer = graph.producer(tensor)
    for reader in graph.consumers(tensor):
        reader.inputs = [bounded if t == tensor else t for t in reader.inputs]
    minimum = schema.OperatorT(
        opcodeIndex=graph.operator_code("MINIMUM", 2),
        inputs=[tensor, largest],
        outputs=[bounded],
        builtinOptionsType=schema.BuiltinOptions.MaximumMinimumOptions,
        builtinOptions=schema.MaximumMinimumOptionsT(),
    )
    place = 0 if producer is None else graph.operators.index(producer) + 1
    graph.operators.insert(place, minimum)
    _move_outputs(graph, tensor, bounded)


def _move_outputs(graph: Graph, old: int, new: int) -> Any:
    graph.subgraph.outputs = [new if t == old else t for t in graph.subgraph.outputs]
    for signature in graph.model.signatureDefs or []:
        for entry in signature.outputs or []:
            entry.tensorIndex = new if entry.tensorIndex == old else entry.tensorIndex
