"""Keras' model summary with multiplications and additions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from pkkd_tf.analysis.operations import count_operations
from pkkd_tf.analysis.records import LayerOperations
from pkkd_tf.analysis.walk import deployed

HEADER = ("Layer (type)", "Output shape", "Parameters", "Multiplications", "Additions")


@dataclasses.dataclass(frozen=True)
class Totals:
    """Sums over a network, the operations for one image.

    Attributes:
        parameters: number of weights, those that are not trained included.
        multiplications: number of multiplications.
        additions: number of additions.
    """

    parameters: int
    multiplications: int
    additions: int


def summary(model: keras.Model, print_fn: Callable[[str], Any] = print) -> Totals:
    """Prints what every layer costs for one image, and returns the totals.

    The convention is that of `count_operations`: a multiply-accumulate is one multiplication and
    one addition, an adder term is two additions, everything else counts as nothing.

    Args:
        model: a built `keras.Model`; of a `PKKD` the student is shown.
        print_fn: called once a line, like the argument of `keras.Model.summary`.

    Returns:
        `Totals`.

    Raises:
        ValueError: as `count_operations`.

    Example:
        >>> totals = pkkd_tf.summary(pkkd_tf.models.resnet20())
        >>> totals.additions
        81183360
    """
    model = deployed(model)
    layers = count_operations(model)
    totals = Totals(
        parameters=model.count_params(),
        multiplications=sum(layer.multiplications for layer in layers),
        additions=sum(layer.additions for layer in layers),
    )
    last = ("Total for one image", "", *(f"{n:,}" for n in dataclasses.astuple(totals)))
    rows = [HEADER, *map(_row, layers), last]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_line(row, widths) for row in rows]
    for line in (f'Model: "{model.name}"', lines[0], rule, *lines[1:-1], rule, lines[-1]):
        print_fn(line)
    return totals


def _row(layer: LayerOperations) -> tuple[str, ...]:
    counts = (layer.parameters, layer.multiplications, layer.additions)
    shape = " x ".join("?" if size is None else str(size) for size in layer.output_shape or ())
    return (f"{layer.name} ({layer.type})", shape, *(f"{n:,}" for n in counts))


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
    return "  ".join(left + [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])])
