"""What stands around an operator of a float network: who alone reads it, what it is made of."""

from collections.abc import Collection
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph, get_options
from export.tflite.responses import CUSTOM_OPERATOR

NONE = schema.ActivationFunctionType.NONE
RELU = schema.ActivationFunctionType.RELU
RELU6 = schema.ActivationFunctionType.RELU6


def only_reader(graph: Graph, tensor: int, names: Collection[str]) -> Any | None:
    """The operator of one of these names that alone reads a tensor.

    With another activation at its end than a ReLU or ReLU6 it does not count.
    """
    consumers = graph.consumers(tensor)
    if graph.is_output(tensor) or len(consumers) != 1:
        return None
    (reader,) = consumers
    named = graph.name(reader) in names
    return reader if named and activation(reader) in (NONE, RELU, RELU6) else None


def split_relu6(graph: Graph, operator: Any) -> None:
    """Makes the ReLU6 at an operator's end, if there is one, an operator that follows it."""
    if activation(operator) != RELU6:
        return
    (y,) = operator.outputs
    before = graph.add_tensor(graph.shape(y), np.float32, f"{graph.tensor_name(y)}/before")
    operator.outputs, operator.builtinOptions.fusedActivationFunction = [before], NONE
    relu6 = schema.OperatorT(
        opcodeIndex=graph.operator_code("RELU6", 1), inputs=[before], outputs=[y]
    )
    graph.operators.insert(graph.operators.index(operator) + 1, relu6)


def activation(operator: Any) -> int:
    """The activation at an operator's end."""
    return getattr(operator.builtinOptions, "fusedActivationFunction", NONE)


def other_operand(operator: Any, y: int) -> int:
    """The operand of a binary operator that is not `y`."""
    first, second = operator.inputs
    return int(second if first == y else first)


def is_open(graph: Graph, tensor: int) -> bool:
    """Whether an adder operator that could add another tensor computes this one, for an ADD."""
    producer = graph.producer(tensor)
    if producer is None or only_reader(graph, tensor, ("ADD",)) is None:
        return False
    while producer is not None and graph.name(producer) in ("MUL", "ADD", "SUB"):
        producer = _only_maker(graph, producer)
    return producer is not None and _takes_residual(graph, producer)


def _only_maker(graph: Graph, operator: Any) -> Any | None:
    """The operator that makes the one computed operand of another, for that one alone."""
    computed = [t for t in operator.inputs if graph.producer(t) is not None]
    if len(computed) != 1 or activation(operator) != NONE:
        return None
    alone = len(graph.consumers(computed[0])) == 1 and not graph.is_output(computed[0])
    return graph.producer(computed[0]) if alone else None


def _takes_residual(graph: Graph, operator: Any) -> bool:
    """Whether it is an adder operator that has no residual and no ReLU yet."""
    if graph.name(operator) != CUSTOM_OPERATOR:
        return False
    taken = get_options(operator)
    return not (taken.get("residual") or taken.get("relu"))
