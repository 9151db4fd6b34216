"""Moves what surrounds an adder operator into it: padding, batch normalization, addition, ReLU.

    PAD -> AdderConv2D -> MUL, ADD by a number a channel -> ADD of another tensor -> ReLU

becomes one AdderConv2D with inputs x, filters[, scale, offset][, residual] and the options
`affine`, `residual` and `relu`: `y = relu(y * scale + offset + residual)`. A step is taken only
where nobody else reads what would disappear. MAX_POOL_2D changes places with what follows it where
that rises with the response: max(y) * 2 = max(y * 2). RESHAPE does so wherever
channels stay last, as behind a dense layer. A ReLU6 stays an operator behind it.
"""

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from export.tflite.graph import Graph, get_options, set_options
from export.tflite.responses import CUSTOM_OPERATOR

MOST_PADDING = 65535
_NONE = schema.ActivationFunctionType.NONE
_RELU = schema.ActivationFunctionType.RELU
_RELU6 = schema.ActivationFunctionType.RELU6


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
    for operator in graph.named("RESHAPE"):
        _fix_shape(graph, operator)
    graph.drop_unread()
    return graph.to_bytes()


def _fix_shape(graph: Graph, operator: Any) -> None:
    """(number of images, known sizes) needs no computing: the first is what is left, -1."""
    pack = graph.producer(operator.inputs[1])
    if pack is None or graph.name(pack) != "PACK":
        return
    sizes = [graph.constant(t) for t in pack.inputs[1:]]
    count = graph.producer(pack.inputs[0])
    if count is None or graph.name(count) != "STRIDED_SLICE" or any(s is None for s in sizes):
        return
    shape = graph.producer(count.inputs[0])
    if shape is None or graph.name(shape) != "SHAPE" or graph.constant(count.inputs[1]).any():
        return
    if list(shape.inputs) == [operator.inputs[0]] and -1 not in graph.shape(shape.inputs[0])[1:]:
        numbers = np.array([-1, *map(int, sizes)], np.int32)
        constant = graph.add_constant(numbers, f"{graph.tensor_name(operator.outputs[0])}/shape")
        operator.inputs = [operator.inputs[0], constant]


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
        while not self.relu and (self._take_next() or self._take_past()):
            pass
        self._write()

    def _take_next(self) -> bool:
        y = self.operator.outputs[0]
        follower = self._only_reader(y, tuple(self._takers()))
        if follower is None or not self._takers()[self.graph.name(follower)](follower, y):
            return False
        self.relu = self.relu or _activation(follower) == _RELU
        self._replace(follower)
        return True

    def _takers(self) -> dict[str, Any]:
        return {"MUL": self._mul, "ADD": self._add, "SUB": self._sub, "RELU": self._relu}

    def _only_reader(self, tensor: int, names: tuple[str, ...]) -> Any | None:
        """The operator of one of these names that alone reads a tensor."""
        consumers = self.graph.consumers(tensor)
        if self.graph.is_output(tensor) or len(consumers) != 1:
            return None
        named = self.graph.name(consumers[0]) in names
        if named and _activation(consumers[0]) == _RELU6:
            _split_activation(self.graph, consumers[0])
        return consumers[0] if named and _activation(consumers[0]) in (_NONE, _RELU) else None

    def _take_past(self) -> bool:
        """Takes in what follows a pool, or a change of shape that leaves the channels last."""
        mover = self._only_reader(self.operator.outputs[0], ("MAX_POOL_2D", "RESHAPE"))
        if mover is None or self.residual is not None or _activation(mover) != _NONE:
            return False
        moved = mover.outputs[0]
        follower = self._only_reader(moved, tuple(self._takers()))
        pools = self.graph.name(mover) == "MAX_POOL_2D"
        if self.graph.shape(moved)[-1] != self.outputs or follower is None:
            return False
        if not self._is_of_channels(follower, moved, rising=pools):
            return False
        self._takers()[self.graph.name(follower)](follower, moved)
        self.relu = self.relu or _activation(follower) == _RELU
        mover.outputs = follower.outputs
        self.graph.operators.remove(follower)
        return True

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
        other = _other(follower, y)
        same = other != y and self.graph.shape(other) == self.graph.shape(y)
        if self.residual is not None or not same or self.graph.constant(other) is not None:
            return False
        if follower.inputs[1] == y and self._is_open(other):
            return False  # the first of two adder layers does the addition
        self.residual = other
        return True

    def _is_open(self, tensor: int) -> bool:
        """Whether an adder operator that has no residual and no ReLU computes a tensor alone."""
        producer = self.graph.producer(tensor)
        if producer is None or self._only_reader(tensor, ("ADD",)) is None:
            return False
        while self.graph.name(producer) in ("MUL", "ADD", "SUB"):
            computed = [t for t in producer.inputs if self.graph.producer(t) is not None]
            if len(computed) != 1 or _activation(producer) != _NONE:
                return False
            if len(self.graph.consumers(computed[0])) != 1 or self.graph.is_output(computed[0]):
                return False
            producer = self.graph.producer(computed[0])
        taken = get_options(producer) if self.graph.name(producer) == CUSTOM_OPERATOR else None
        return taken is not None and not (taken.get("residual") or taken.get("relu"))

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
            name = self.graph.tensor_name(inputs[1])
            for values, part in ((self.scale, "scale"), (self.offset, "offset")):
                constant = self.graph.add_constant(values.astype(np.float32), f"{name}/{part}")
                inputs.append(constant)
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


def _split_activation(graph: Graph, operator: Any) -> None:
    """Makes the ReLU6 at an operator's end one that follows it."""
    (y,) = operator.outputs
    before = graph.add_tensor(graph.shape(y), np.float32, f"{graph.tensor_name(y)}/before")
    operator.outputs, operator.builtinOptions.fusedActivationFunction = [before], _NONE
    relu6 = schema.OperatorT(
        opcodeIndex=graph.operator_code("RELU6", 1), inputs=[before], outputs=[y]
    )
    graph.operators.insert(graph.operators.index(operator) + 1, relu6)


def _other(follower: Any, y: int) -> int:
    """The operand of a binary operator that is not `y`."""
    first, second = follower.inputs
    return int(second if first == y else first)


def _activation(operator: Any) -> int:
    return getattr(operator.builtinOptions, "fusedActivationFunction", _NONE)
