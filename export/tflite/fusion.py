"""Moves what surrounds an adder operator into it: padding, batch normalization, addition, ReLU.

    PAD -> AdderConv2D -> MUL, ADD by a number a channel -> ADD of another tensor -> ReLU

becomes one AdderConv2D with inputs x, filters[, scale, offset][, residual] and the options
`affine`, `residual` and `relu`: `y = relu(y * scale + offset + residual)`. A step is taken only
where nobody else reads what would disappear.
"""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph, get_options, set_options
from export.tflite.responses import CUSTOM_OPERATOR

MOST_PADDING = 65535
_NONE = schema.ActivationFunctionType.NONE
_RELU = schema.ActivationFunctionType.RELU


def fuse(data: bytes) -> bytes:
    """Fuses around every adder operator of a model.

    Args:
        data: bytes of a `.tflite` file with operators AdderConv2D.

    Returns:
        Bytes of the fused model; constants that became unused are gone.
    """
    graph = Graph(data)
    for operator in graph.named(CUSTOM_OPERATOR):
        _fold_padding(graph, operator)
        _Follower(graph, operator).fuse()
    graph.drop_unread()
    return graph.to_bytes()


def _fold_padding(graph: Graph, operator: Any) -> None:
    pad = graph.producer(operator.inputs[0])
    if pad is None or graph.name(pad) != "PAD":
        return
    amounts = graph.constant(pad.inputs[1])
    if amounts is None or amounts.shape != (4, 2) or amounts[[0, 3]].any():
        return
    options = get_options(operator)
    for name, pixels in zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), amounts[1:3].flat):
        options[name] += int(pixels)
        if not 0 <= pixels <= options[name] <= MOST_PADDING:
            return
    set_options(operator, options)
    operator.inputs = [pad.inputs[0], *operator.inputs[1:]]


class _Follower:
    """One adder operator and what it has taken in from the operators that follow it."""

    def __init__(self, graph: Graph, operator: Any):
        self.graph, self.operator = graph, operator
        self.outputs = graph.shape(operator.inputs[1])[3]
        self.scale = self.offset = None
        self.residual: int | None = None
        self.relu = False

    def fuse(self) -> None:
        """Takes in as many following operators as can be, then rewrites the adder operator."""
        while not self.relu and self._take_next():
            pass
        self._write()

    def _take_next(self) -> bool:
        y = self.operator.outputs[0]
        consumers = self.graph.consumers(y)
        if self.graph.is_output(y) or len(consumers) != 1:
            return False
        follower = consumers[0]
        take = {"MUL": self._mul, "ADD": self._add, "SUB": self._sub, "RELU": self._relu}
        name = self.graph.name(follower)
        if name not in take or _activation(follower) not in (_NONE, _RELU):
            return False
        if not take[name](follower, y):
            return False
        self.relu = self.relu or _activation(follower) == _RELU
        self._replace(follower)
        return True

    def _mul(self, follower: Any, y: int) -> bool:
        factor = self._per_channel(follower, y)
        if factor is None:
            return False
        self._start_affine()
        self.scale, self.offset = self.scale * factor, self.offset * factor
        return True

    def _add(self, follower: Any, y: int, sign: float = 1.0) -> bool:
        term = self._per_channel(follower, y)
        if term is None:
            return sign > 0 and self._add_residual(follower, y)
        self._start_affine()
        self.offset = self.offset + sign * term
        return True

    def _sub(self, follower: Any, y: int) -> bool:
        return follower.inputs[0] == y and self._add(follower, y, -1.0)

    def _relu(self, follower: Any, y: int) -> bool:
        self.relu = True
        return True

    def _add_residual(self, follower: Any, y: int) -> bool:
        other = _other(follower, y)
        same = other != y and self.graph.shape(other) == self.graph.shape(y)
        if self.residual is not None or not same or self.graph.constant(other) is not None:
            return False
        self.residual = other
        return True

    def _per_channel(self, follower: Any, y: int) -> np.ndarray | None:
        """The follower's constant as one number a channel, unless it is something else."""
        values = self.graph.constant(_other(follower, y))
        if values is None or self.residual is not None or values.ndim > 4:
            return None
        if values.size != 1 and (values.size != self.outputs or values.shape[-1] != self.outputs):
            return None
        return np.broadcast_to(values.reshape(-1), self.outputs).astype(np.float64)

    def _start_affine(self) -> None:
        if self.scale is None:
            self.scale, self.offset = np.ones(self.outputs), np.zeros(self.outputs)

    def _replace(self, follower: Any) -> None:
        """The adder operator runs where the follower ran: all inputs of both are there by then."""
        operators = self.graph.operators
        self.operator.outputs = follower.outputs
        operators.remove(self.operator)
        operators[operators.index(follower)] = self.operator

    def _write(self) -> None:
        inputs = list(self.operator.inputs)
        if self.scale is not None:
            name = self.graph.subgraph.tensors[inputs[1]].name.decode()
            inputs.append(self.graph.add_constant(self.scale, f"{name}/scale"))
            inputs.append(self.graph.add_constant(self.offset, f"{name}/offset"))
        if self.residual is not None:
            inputs.append(self.residual)
        self.operator.inputs = inputs
        taken = {
            "affine": self.scale is not None,
            "residual": self.residual is not None,
            "relu": self.relu,
        }
        added = {name: 1 for name, is_taken in taken.items() if is_taken}
        set_options(self.operator, get_options(self.operator) | added)


def _other(follower: Any, y: int) -> int:
    """The operand of a binary operator that is not `y`."""
    first, second = follower.inputs
    return int(second if first == y else first)


def _activation(operator: Any) -> int:
    return getattr(operator.builtinOptions, "fusedActivationFunction", _NONE)
