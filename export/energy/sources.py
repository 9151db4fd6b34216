"""Networks to count, whatever file they come from."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from custom_ops import build_delegate
from export import program
from export.energy import measure
from export.energy.estimate import MEMORY_MODEL
from export.energy.keras_records import keras_records
from export.energy.records import LayerRecord
from export.energy.tflite_records import (
    TFLITE_MEMORY_MODEL,
    has_adders,
    tflite_bits,
    tflite_records,
)
from export.program import ExportError
from export.tflite.stand_ins import has_adder_layers
from pkkd_tf import pretrained

SUFFIX = ".tflite"


@dataclasses.dataclass(frozen=True)
class Source:
    """A network that was read.

    Attributes:
        file: where it was read from.
        kind: ANN, a network with adder layers, or CNN.
        records: its layers.
        bits: width of its numbers; None where it can be estimated for any, as of a .keras file.
        inference: makes a function that computes one image.
    """

    file: str
    kind: str
    records: Sequence[LayerRecord]
    bits: int | None
    inference: Callable[[], Callable[[], Any]]


def read(file: str, flag: str = "--model") -> Source:
    """Reads a network.

    Args:
        file: a `.keras` or `.tflite` file, or the name of a network that comes with the package.
        flag: what an error calls it.

    Returns:
        `Source`.

    Raises:
        ExportError: there is no such file, it cannot be read, or holds what cannot be counted.
    """
    if file.endswith(SUFFIX):
        return _read_tflite(file, flag)
    if not file.endswith(".keras") and file not in pretrained.ACCURACY:
        raise ExportError(f"{flag} must be a .keras or .tflite file. Received: '{file}'")
    model = program.load_network(file, flag)
    kind = "ANN" if has_adder_layers(model) else "CNN"
    return Source(file, kind, keras_records(model), None, lambda: measure.inference(model))


def _read_tflite(file: str, flag: str) -> Source:
    data = Path(file).read_bytes() if Path(file).is_file() else b""
    if data[4:8] != b"TFL3":
        raise ExportError(f"{flag} must be an existing .tflite file. Received: '{file}'")
    try:
        return _tflite_source(file, data)
    except ExportError:
        raise
    except Exception as error:  # of any class: nothing checks a damaged file's values before use
        raise ExportError(
            f"{flag} must be a whole .tflite file. "
            f"Received: '{file}', {type(error).__name__}: {error}"
        ) from error


def _tflite_source(file: str, data: bytes) -> Source:
    kind, library = "ANN" if has_adders(data) else "CNN", build_delegate.LIBRARY

    def inference() -> Callable[[], Any]:
        return measure.tflite_inference(data, library if library.is_file() else None)

    return Source(file, kind, tflite_records(data), tflite_bits(data), inference)


def named(read: Iterable[Source]) -> dict[str, Source]:
    """By kind and the file's name, or its path where that is not enough."""
    read = list(read)
    names = {f"{source.kind} {Path(source.file).stem}": source for source in read}
    if len(names) < len(read):
        names = {f"{source.kind} {source.file}": source for source in read}
    return names


def memory_model(read: Iterable[Source]) -> str:
    """What is assumed of memory, with what .tflite files differ in if there is one."""
    tflite = any(source.bits is not None for source in read)
    return f"{MEMORY_MODEL} {TFLITE_MEMORY_MODEL}" if tflite else MEMORY_MODEL
