"""Energy of one operation and of one memory access, in picojoules, with their source."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from export.program import ExportError

BY_BITS = {32: "fp32", 16: "fp16", 8: "int8"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One number format.

    Attributes:
        bits: width of a number, in memory too.
        multiply: picojoules of one multiplication.
        add: picojoules of one addition.
    """

    bits: int
    multiply: float
    add: float


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of the memory.

    Attributes:
        name: as it is printed.
        bytes: what fits into it; None: everything.
        picojoules: of one access.
        picojoules_upper: upper end where the source gives a range, else the same.
    """

    name: str
    bytes: int | None
    picojoules: float
    picojoules_upper: float


@dataclasses.dataclass(frozen=True)
class Constants:
    """All constants of an estimate.

    Attributes:
        source: where the numbers are from; printed with every result.
        operations: number format -> `Operation`; "fp32", "fp16" and "int8" are there.
        levels: smallest first; the last one holds everything.
        access_bits: width of one memory access.
    """

    source: str
    operations: Mapping[str, Operation]
    levels: tuple[Level, ...]
    access_bits: int = 64

    def level_of(self, size: int) -> Level:
        """The smallest level that holds `size` bytes."""
        return next(level for level in self.levels if level.bytes is None or size <= level.bytes)


HOROWITZ = Constants(
    source="M. Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm",
    operations={
        "fp32": Operation(32, 3.7, 0.9),
        "fp16": Operation(16, 1.1, 0.4),
        "int32": Operation(32, 3.1, 0.1),
        "int8": Operation(8, 0.2, 0.03),
    },
    levels=(
        Level("8 KB cache", 8 * 1024, 10.0, 10.0),
        Level("32 KB cache", 32 * 1024, 20.0, 20.0),
        Level("1 MB cache", 1024 * 1024, 100.0, 100.0),
        Level("DRAM", None, 1300.0, 2600.0),
    ),
)


def read_constants(path: str | os.PathLike) -> Constants:
    """Reads other constants than Horowitz' from a JSON file.

    The file holds `source`, a text, and one or both of `operations` and `memory`; what is missing
    keeps Horowitz' values. The key `constants` of a written `energy.json` is an example:

        {"source": "...",
         "operations": {"int8": {"bits": 8, "multiply": 0.2, "add": 0.03}},
         "memory": {"access_bits": 64, "levels": [
             {"name": "buffer", "bytes": 131072, "picojoules": 26},
             {"name": "DRAM", "bytes": null, "picojoules": 1300, "picojoules_upper": 2600}]}}

    Args:
        path: the file.

    Returns:
        `Constants`.

    Raises:
        ExportError: the file is not there, no JSON, or a value is missing or out of its range.

    Example:
        >>> read_constants("constants.json").source
        '...'
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return _constants(content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(
            "--constants must be a JSON file with a source, and operations, memory or both as in "
            f"the constants of energy.json. Received: constants='{path}', "
            f"{type(error).__name__}: {error}"
        ) from error


def as_json(constants: Constants) -> dict[str, Any]:
    """The form that `read_constants` reads."""
    return {
        "source": constants.source,
        "operations": {n: dataclasses.asdict(o) for n, o in constants.operations.items()},
        "memory": {
            "access_bits": constants.access_bits,
            "levels": [dataclasses.asdict(level) for level in constants.levels],
        },
    }


def _constants(content: Any) -> Constants:
    unknown = set(content) - {"source", "operations", "memory"}
    if unknown or not isinstance(content["source"], str) or len(content) < 2:
        raise ValueError(f"keys {sorted(content)}")
    operations = {name: Operation(**o) for name, o in content.get("operations", {}).items()}
    levels, access_bits = HOROWITZ.levels, HOROWITZ.access_bits
    if "memory" in content:
        levels = tuple(_level(**level) for level in content["memory"]["levels"])
        access_bits = content["memory"]["access_bits"]
    for name, operation in operations.items():
        _check_positive(name, operation.bits, operation.multiply, operation.add)
    for level in levels:
        _check_positive(level.name, level.picojoules, level.picojoules_upper)
    _check_positive("access_bits", access_bits)
    _check_order(levels)
    return Constants(content["source"], {**HOROWITZ.operations, **operations}, levels, access_bits)


def _level(
    name: str, bytes: int | None, picojoules: float, picojoules_upper: float | None = None
) -> Level:
    return Level(name, bytes, picojoules, picojoules_upper or picojoules)


def _check_positive(name: str, *values: Any) -> None:
    if not all(0 < value < math.inf for value in values):
        raise ValueError(f"{name}: {values} must be positive")


def _check_order(levels: tuple[Level, ...]) -> None:
    sizes = [math.inf if level.bytes is None else level.bytes for level in levels]
    if not sizes or sizes[-1] != math.inf or sizes != sorted(set(sizes)):
        raise ValueError(f"levels must grow and end with bytes null, not {sizes}")
