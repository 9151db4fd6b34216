"""Operator records of a `.tflite` file, from its graph and the types of its tensors."""

import math
from collections.abc import Iterator
from typing import Any

from export.energy.adder_parts import VIEWS, AdderParts
from export.energy.records import LayerRecord
from export.energy.tflite_graph import BITS, dtype_of, sizes_of_one_image
from export.program import ExportError
from export.tflite.dilation import join_dilated
from export.tflite.graph import Graph
from export.tflite.responses import CUSTOM_OPERATOR

# Axes of the filters that a sum runs over.
FAN_IN = {
    "CONV_2D": (1, 2, 3),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1,),
    CUSTOM_OPERATOR: (0, 1, 2),
}
TRANSPOSED = "TRANSPOSE_CONV"  # each number of its input is in a sum for these axes
FAN_OUT = (0, 1, 2)
FILTERED = (*FAN_IN, TRANSPOSED)
# Numbers move; what is computed on the way counts as nothing, by the convention of the papers.
MOVING = {
    *("ADD", "SUB", "MUL", "DIV", "NEG", "ABS", "SQUARE", "SQRT", "RSQRT", "EXP", "LOG", "POW"),
    *("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN"),
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU"),
    *("ELU", "GELU", "TANH", "LOGISTIC", "HARD_SWISH", "SOFTMAX", "LOG_SOFTMAX", "CAST"),
    *("PAD", "PADV2", "MIRROR_PAD", "CONCATENATION", "SLICE", "STRIDED_SLICE", "SPLIT"),
    *("TILE", "EXPAND_DIMS", "PACK", "UNPACK", "GATHER", "SELECT", "SELECT_V2"),
    *(
        "SPACE_TO_BATCH_ND",
        "BATCH_TO_SPACE_ND",
        "TRANSPOSE",
        "QUANTIZE",
        "DEQUANTIZE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
    ),
}
TFLITE_MEMORY_MODEL = (
    "Of a .tflite file every operator reads its inputs and writes its output, as the file has "
    "them: an ADD that is an operator of its own moves three tensors, one that is fused into an "
    "AdderConv2D or counted from a .keras file reads the shortcut alone."
)


def tflite_records(data: bytes) -> list[LayerRecord]:
    """Operations, weights and memory traffic of every operator, for one image.

    Operations by the convention of `pkkd_tf.analysis.count_operations`, with `n` numbers in the
    output and `k` terms in each:

        CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED   n * k multiplications, n * k additions
        TRANSPOSE_CONV                                the same, n numbers of its input in k terms
        AdderConv2D, float32 and int8                 2 * n * k additions
        int8 DEPTHWISE_CONV_2D of one pixel           nothing: the form of a batch normalization
        SUB, ABS, SUM in a row, n * k numbers wide    n * k additions in SUB, n * k in SUM

    and nothing for all others; the last line is what an adder layer is in builtin operators, so
    that one network counts the same in every format. Traffic: every operator reads its inputs and
    writes its outputs, each as wide as its type; changes of shape move nothing. Constants of
    operators with filters count whole, scales and biases of int32 and int64 in their own width.

    Args:
        data: bytes of a `.tflite` file, float32 or int8.

    Returns:
        One `LayerRecord` an operator, in the order in which they run. Numbers are of the file's
        type: an int32 bias of an int8 file counts as four.

    Raises:
        ExportError: as `tflite_bits`; an operator has no rule here, or images of any size fit.

    Example:
        >>> records = tflite_records(convert(pkkd_tf.models.resnet20(), "custom_op"))
        >>> sum(record.additions for record in records)
        81183360

    Limits: the first subgraph alone, so no control flow.
    """
    graph = Graph(join_dilated(data))  # three operators, of which the middle one has more images
    counter = _Counter(graph, _bits(graph) // 8)
    return [counter.record(index, operator) for index, operator in _moving(graph)]


def tflite_bits(data: bytes) -> int:
    """The width in which a file's convolutions, dense and adder layers compute: 32 or 8.

    Args:
        data: bytes of a `.tflite` file.

    Returns:
        32 for float32, 8 for int8.

    Raises:
        ExportError: they compute in several types, in another type, or there is none of them.

    Example:
        >>> tflite_bits(convert(pkkd_tf.models.resnet20(), "custom_op"))
        32
    """
    return _bits(Graph(data))


def has_adders(data: bytes) -> bool:
    """Whether a file holds adder layers, as custom or as builtin operators."""
    graph = Graph(data)
    parts = AdderParts(graph)
    sums = graph.named("SUM")
    custom = bool(graph.named(CUSTOM_OPERATOR))
    return custom or any(parts.difference(operator) is not None for operator in sums)


def _bits(graph: Graph) -> int:
    """By the types of images and filters; those of a hybrid operator differ."""
    parts = AdderParts(graph)
    filtered = [
        o
        for o in graph.operators
        if graph.name(o) in FILTERED or (graph.name(o) == "SUB" and parts.difference(o) is not None)
    ]
    types = {str(dtype_of(graph, t)) for o in filtered for t in _numbers(graph, o)[:2]}
    bits = {str(dtype): width for dtype, width in BITS.items()}
    if len(types) != 1 or not types <= set(bits):
        raise ExportError(
            "A .tflite file must compute in one type, float32 or int8. Received: inputs and "
            f"filters of {sorted(types) or 'no operator that has some'}"
        )
    return bits[types.pop()]


def _numbers(graph: Graph, operator: Any) -> list[int]:
    """Images, filters and what else an operator computes with; not an output's shape."""
    first = 1 if graph.name(operator) == TRANSPOSED else 0
    return [int(t) for t in operator.inputs[first:] if t >= 0]


def _moving(graph: Graph) -> Iterator[tuple[int, Any]]:
    """Every operator that moves numbers, with its place; sizes of shapes are left out."""
    for index, operator in enumerate(graph.operators):
        name, outputs = graph.name(operator), [dtype_of(graph, t) for t in operator.outputs]
        if name in VIEWS or not set(outputs) & set(BITS):
            continue
        if name not in FILTERED and name not in MOVING:
            raise ExportError(
                f"An operator must be one of {', '.join(FILTERED)} or one without filters to be "
                f"counted. Received: operator={index} {name}"
            )
        yield index, operator


class _Counter:
    """What operators cost; `unit` is the bytes of a number of the file."""

    def __init__(self, graph: Graph, unit: int):
        self.graph, self.unit = graph, unit
        self.sizes, self.adder_parts = sizes_of_one_image(graph), AdderParts(graph)

    def record(self, index: int, operator: Any) -> LayerRecord:
        """The record; its name is the operator's place and what it is."""
        name = self.graph.name(operator)
        multiplications, additions = self._operations(operator, name)
        # Integers that say where (axes, paddings) are part of the operator, not of the weights.
        inputs = _numbers(self.graph, operator)
        inputs = [t for t in inputs if name in FILTERED or dtype_of(self.graph, t) in BITS]
        return LayerRecord(
            name=f"{index} {name}",
            type=name,
            multiplications=multiplications,
            additions=additions,
            weights=sum(self._numbers(t) for t in inputs if t not in self.sizes),
            reads=tuple(self._numbers(t) for t in inputs if t in self.sizes),
            writes=tuple(self._numbers(t) for t in operator.outputs),
        )

    def _operations(self, operator: Any, name: str) -> tuple[int, int]:
        """Multiplications and additions."""
        if name not in FILTERED:
            difference = self.adder_parts.difference(operator)
            return 0, 0 if difference is None else self.sizes[difference]
        filters = self.graph.shape(operator.inputs[1])
        if name == TRANSPOSED:
            terms = math.prod(filters[axis] for axis in FAN_OUT) * self.sizes[operator.inputs[2]]
            return terms, terms
        if self._is_normalization(operator, name):
            return 0, 0
        terms = math.prod(filters[axis] for axis in FAN_IN[name])
        terms *= self.sizes[operator.outputs[0]]
        return (0, 2 * terms) if name == CUSTOM_OPERATOR else (terms, terms)

    def _is_normalization(self, operator: Any, name: str) -> bool:
        one_pixel = self.graph.shape(operator.inputs[1])[:3] == (1, 1, 1)
        same = self.sizes[operator.inputs[0]] == self.sizes[operator.outputs[0]]
        return self.unit == 1 and name == "DEPTHWISE_CONV_2D" and one_pixel and same

    def _numbers(self, tensor: int) -> int:
        size = self.sizes.get(tensor) or math.prod(self.graph.shape(tensor))
        return size * dtype_of(self.graph, tensor).itemsize // self.unit
