"""One adder operator and what it takes in from the operators that follow it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from export.tflite.graph import Graph, get_options, set_options
from export.tflite.neighbours import (
    NONE,
    RELU,
    activation,
    is_open,
    only_reader,
    other_operand,
    split_relu6,
)


class Follower:
    """Follows an adder operator as far as it can take in what reads it.

    Args:
        graph: the network.
        operator: one of its AdderConv2D, float32.
    """

    def __init__(self, graph: Graph, operator: Any):
        self.graph, self.operator = graph, operator
        self.outputs = graph.shape(operator.inputs[1])[3]
        self.scale = self.offset = None
        self.residual: int | None = None
        self.relu = False
        self._takers: dict[str, Callable[[Any, int], bool]] = {
            "MUL": self._mul,
            "ADD": self._add,
            "SUB": self._sub,
            "RELU": self._relu,
        }

    def fuse(self) -> None:
        """Takes in as many following operators as can be, then rewrites the adder operator."""
        while not self.relu and (self._take_next() or self._take_past()):
            pass
        self._write()

    def _take_next(self) -> bool:
        y = self.operator.outputs[0]
        follower = only_reader(self.graph, y, self._takers)
        if follower is None or not self._take_in(follower, y):
            return False
        self._replace(follower)
        return True

    def _take_in(self, follower: Any, y: int) -> bool:
        taken = self._takers[self.graph.name(follower)](follower, y)
        if taken:
            self.relu = self.relu or activation(follower) == RELU
            split_relu6(self.graph, follower)
        return taken

    def _replace(self, follower: Any) -> None:
        """The adder operator runs where the follower ran: all inputs of both are there by then."""
        operators = self.graph.operators
        self.operator.outputs = follower.outputs
        operators.remove(self.operator)
        operators[operators.index(follower)] = self.operator

    def _take_past(self) -> bool:
        """Takes in what follows a pool, or a change of shape that leaves the channels last."""
        mover = only_reader(self.graph, self.operator.outputs[0], ("MAX_POOL_2D", "RESHAPE"))
        if mover is None or self.residual is not None or activation(mover) != NONE:
            return False
        follower = only_reader(self.graph, mover.outputs[0], self._takers)
        if follower is None or not self._passes(mover, follower):
            return False
        self._take_in(follower, mover.outputs[0])
        mover.outputs = follower.outputs
        self.graph.operators.remove(follower)
        return True

    def _passes(self, mover: Any, follower: Any) -> bool:
        """Whether both may change places."""
        moved, pools = mover.outputs[0], self.graph.name(mover) == "MAX_POOL_2D"
        if self.graph.shape(moved)[-1] != self.outputs:
            return False
        return self._is_of_channels(follower, moved, rising=pools)

    def _is_of_channels(self, follower: Any, y: int, rising: bool) -> bool:
        """Whether the follower is a function of `y` and the channel, `rising`: one that rises."""
        name = self.graph.name(follower)
        if name == "RELU":
            return True
        values = self._per_channel(follower, y)
        if values is None or (name == "SUB" and follower.inputs[0] != y):
            return False
        return name != "MUL" or not rising or bool((values > 0).all())

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
        other = other_operand(follower, y)
        same = other != y and self.graph.shape(other) == self.graph.shape(y)
        if self.residual is not None or not same or self.graph.constant(other) is not None:
            return False
        if follower.inputs[1] == y and is_open(self.graph, other):
            return False  # the first of two adder layers does the addition
        self.residual = other
        return True

    def _per_channel(self, follower: Any, y: int) -> np.ndarray | None:
        """The follower's constant as one number a channel, unless it is something else."""
        values = self.graph.constant(other_operand(follower, y))
        if values is None or self.residual is not None or values.ndim > 4:
            return None
        if values.size != 1 and (values.size != self.outputs or values.shape[-1] != self.outputs):
            return None
        return np.broadcast_to(values.reshape(-1), self.outputs).astype(np.float64)

    def _start_affine(self) -> None:
        if self.scale is None:
            self.scale, self.offset = np.ones(self.outputs), np.zeros(self.outputs)

    def _write(self) -> None:
        taken = {
            "affine": self.scale is not None,
            "residual": self.residual is not None,
            "relu": self.relu,
        }
        added = {name: 1 for name, is_taken in taken.items() if is_taken}
        set_options(self.operator, get_options(self.operator) | added)
        inputs = [*self.operator.inputs, *self._affine()]
        self.operator.inputs = inputs if self.residual is None else [*inputs, self.residual]

    def _affine(self) -> list[int]:
        """Scale and offset as constants, if there are some."""
        if self.scale is None:
            return []
        name = self.graph.tensor_name(self.operator.inputs[1])
        pair = {"scale": self.scale, "offset": self.offset}
        return [
            self.graph.add_constant(values.astype(np.float32), f"{name}/{part}")
            for part, values in pair.items()
        ]
