"""Moves what surrounds an adder operator into it: padding, batch normalization, addition, ReLU.

    PAD -> AdderConv2D -> MUL, ADD by a number a channel -> ADD of another tensor -> ReLU

becomes one AdderConv2D with inputs x, filters[, scale, offset][, residual] and the options
`affine`, `residual` and `relu`: `y = relu(y * scale + offset + residual)`. A step is taken only
where nobody else reads what would disappear. MAX_POOL_2D changes places with what follows it where
that rises with the response: max(y) * 2 = max(y * 2). RESHAPE does so wherever
channels stay last, as behind a dense layer. A ReLU6 stays an operator behind it.
"""

from typing import Any

from export.tflite.follower import Follower
from export.tflite.graph import Graph, get_options, set_options
from export.tflite.reshaping import fix_shape
from export.tflite.responses import CUSTOM_OPERATOR

MOST_PADDING = 65535


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
        Follower(graph, operator).fuse()
    for operator in graph.named("RESHAPE"):
        fix_shape(graph, operator)
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
