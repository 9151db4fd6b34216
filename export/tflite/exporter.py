"""Writes a `.tflite` file whose outputs were compared with the network's."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from custom_ops import build_delegate
from export import program, writing
from export.full_float32 import full_float32
from export.outputs import named, output_names, report_of
from export.program import ExportError
from export.saved_model import TOLERANCE, UNKNOWN_SIZE
from export.tflite import int8
from export.tflite.converter import FLOAT_FORMATS, FORMATS, convert
from export.tflite.graph import Graph
from export.tflite.interpreters import Network
from export.tflite.stand_ins import has_adder_layers, rounded_layers

IDENTIFIER = b"TFL3"  # at byte 4 of every .tflite file


def export_tflite(
    model_path: str | os.PathLike,
    output: str | os.PathLike,
    format: str = "portable",
    delegate: str | os.PathLike | None = None,
    overwrite: bool = False,
    calibration_images: np.ndarray | None = None,
    bits: int | None = None,
) -> dict[str, Any]:
    """Converts a network, runs the result beside the network, and writes it if they agree.

    Args:
        model_path: a `.keras` file.
        output: the file to write; complete or not there at all.
        format: `"portable"` (float32, builtin operators, any interpreter), `"custom_op"` (float32,
            one operator AdderConv2D a layer, computed by the delegate) or `"int8"` (all tensors and
            filters int8, adder layers computed by the delegate).
        delegate: library that computes AdderConv2D; None: where `custom_ops.build_delegate` puts
            it. Not used for `"portable"`, and where the network has no adder layer.
        overwrite: replace a `.tflite` file at `output`.
        calibration_images: float32 array (N, H, W, C) as the network takes them; for `"int8"` only.
        bits: 2 to 8, of the adder layers of `"int8"`; None: those of a network that was fine-tuned
            in rounded numbers, else 8. All other layers have 8.

    Returns:
        dict with `difference` (the largest, relative to the largest output), `bytes`, `operators`
        (name -> number) and `alive` (whether the outputs depend on the image at all: an untrained
        network's need not, and then the comparison says little). For `"int8"` the difference is the
        root mean square over that of the outputs, and `agreement` is the share of the calibration
        images whose largest output is the same. Of several outputs each is compared by itself and
        these are the worst; `outputs` has all three for each output by its name
        (`export.outputs.output_names`).

    Raises:
        ValueError: the format is unknown, or `bits`.
        ExportError: the model cannot be read or converted, `output` is taken or cannot be written,
            there is no delegate or no calibration image, a float format is given what is for int8,
            a network fine-tuned in rounded numbers has other `bits`, or a number of an int8 network
            is not finite. Outputs differ: of float formats by more than 1e-4 from the network's, of
            int8 from the integer reference's, those of an adder layer at all, those of another
            operator by more than one step; nothing is written then.

    Example:
        >>> export_tflite("student.keras", "student.tflite")["difference"]
        2.1e-07
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {FORMATS}. Received: format={format!r}")
    if format != int8.FORMAT:
        _check_arguments(format, calibration_images, bits)
    output = writing.check_free(output, overwrite, _is_tflite)
    model = program.load_network(model_path)
    _check_input(model)
    needed = format != "portable" and has_adder_layers(model)
    library = _find_delegate(delegate) if needed else None
    if format == int8.FORMAT:
        data, report = int8.make(model, calibration_images, library, bits)
    else:
        _check_float(model, format)
        data = convert(model, format)
        report = report_of(_compare(model, data, library))
    writing.write_files(output.parent, {output.name: data})
    graph = Graph(data)
    names = [graph.name(operator) for operator in graph.operators]
    operators = {name: names.count(name) for name in sorted(set(names))}
    return {**report, "bytes": len(data), "operators": operators}


def _check_arguments(format: str, images: np.ndarray | None, bits: int | None) -> None:
    if images is not None or bits is not None:
        count = None if images is None else len(images)
        raise ExportError(
            "Calibration images and `bits` are for format='int8'; the others are float32. "
            f"Received: format={format!r}, calibration images={count}, bits={bits}"
        )


def _check_input(model: keras.Model) -> None:
    dtype = model.inputs[0].dtype
    if not keras.backend.is_float_dtype(dtype):
        raise ExportError(
            "The network must take real numbers: images as they are after preprocessing. "
            f"Received: dtype={dtype} of its input"
        )


def _find_delegate(path: str | os.PathLike | None) -> Path:
    path = Path(path or build_delegate.LIBRARY)
    if not path.is_file():
        raise ExportError(
            "The custom operator is checked with its delegate: run python -m "
            f"custom_ops.build_delegate. Received: delegate='{path}', which does not exist"
        )
    return path


def _check_float(model: keras.Model, format: str) -> None:
    if rounded_layers(model):
        raise ExportError(
            "A network that was fine-tuned in rounded numbers is exported as --format=int8. "
            f"Received: format={format!r}, one of {FLOAT_FORMATS}"
        )


@full_float32()
def _compare(model: keras.Model, data: bytes, delegate: Path | None) -> dict[str, dict]:
    """Runs the file and the network layer by layer, on one image and on three."""
    shape = tuple(size or UNKNOWN_SIZE for size in model.inputs[0].shape[1:])
    images = np.random.default_rng(0).standard_normal((4, *shape)).astype("float32")
    exported = Network(data, delegate)
    pairs = [
        (exported.named(batch), named(model, model(batch, training=False)))
        for batch in (images[:1], images[1:])
    ]
    return {
        name: _compared(name, [(own[name], np.asarray(right[name])) for own, right in pairs])
        for name in output_names(model)
    }


def _compared(name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """What the report says of one output, by what the file and the network gave."""
    difference = max(float(_difference(actual, expected)) for actual, expected in pairs)
    if not difference <= TOLERANCE:  # also where it is not a number
        raise ExportError(
            "The .tflite file must give the network's outputs; it was not written. Received: "
            f"output={name!r}, relative difference {difference:.3g} of at most {TOLERANCE:g}"
        )
    outputs = np.concatenate([expected for _, expected in pairs])
    return {"difference": difference, "alive": bool((outputs != outputs[0]).any())}


def _difference(actual: np.ndarray, expected: np.ndarray) -> float:
    if actual.shape != expected.shape:
        return np.inf
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)


def _is_tflite(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(8)[4:] == IDENTIFIER
