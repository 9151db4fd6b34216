"""Tensors that have one scale, because an operator moves integers without computing."""

from collections.abc import Iterable
from typing import Any

from export.tflite.graph import Graph

SAME_SCALE = (
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "REDUCE_MAX",
    "RESHAPE",
    "EXPAND_DIMS",
    "PAD",
    "TRANSPOSE",
    "STRIDED_SLICE",
    "RESIZE_NEAREST_NEIGHBOR",
    "RESIZE_BILINEAR",
    "CONCATENATION",
    "MAXIMUM",
    "MINIMUM",
)
JOINING = ("CONCATENATION", "MAXIMUM", "MINIMUM")  # those whose inputs are all tied


def tied_tensors(graph: Graph, operator: Any) -> list[int]:
    """The tensors of an operator that must have one scale, its output last.

    Args:
        graph: the network.
        operator: one of its operators.

    Returns:
        Numbers of tensors, constants among them; none for an operator that computes.
    """
    name = graph.name(operator)
    if name not in SAME_SCALE:
        return []
    inputs = operator.inputs if name in JOINING else operator.inputs[:1]
    return [int(t) for t in [*inputs, operator.outputs[0]]]


def tied_groups(graph: Graph, tensors: Iterable[int]) -> list[list[int]]:
    """Splits computed tensors into groups that must have one scale each.

    Args:
        graph: the network.
        tensors: numbers of tensors, in the order in which they are computed.

    Returns:
        The groups, in the order of their first tensors.
    """
    first = {t: t for t in tensors}
    for operator in graph.operators:
        tied = {first[t] for t in tied_tensors(graph, operator) if t in first}
        root = min(tied, key=list(first).index, default=None)
        first |= {t: root for t, own in first.items() if own in tied}
    return [[t for t in first if first[t] == root] for root in dict.fromkeys(first.values())]


def tied_constants(graph: Graph, group: list[int]) -> list[Any]:
    """Values of the constants that are joined with tensors of a group."""
    joining = [o for name in JOINING for o in graph.named(name)]
    joined = [o for o in joining if int(o.outputs[0]) in group]
    found = [graph.constant(t) for operator in joined for t in operator.inputs]
    return [values for values in found if values is not None]
