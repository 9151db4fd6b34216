"""An int8 file of any network, checked before it is handed out."""

import os
from typing import Any

import keras
import numpy as np

from export.full_float32 import full_float32
from export.outputs import named, report_of
from export.program import ExportError
from export.tflite.converter import convert, convert_int8
from export.tflite.int8.checking import check_file
from export.tflite.int8.known import Known, known_ranges
from export.tflite.int8.quantizer import BITS, quantize
from export.tflite.interpreters import Network
from export.tflite.stand_ins import has_adder_layers, rounded_layers
from pkkd_tf import quantization

FORMAT = "int8"
CHECKED = 2  # images that are compared with the reference


def make(
    model: keras.Model,
    images: np.ndarray | None,
    delegate: str | os.PathLike | None,
    bits: int | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Quantizes a network and compares the result with the integer reference and the network.

    Args:
        model: a float network, or one that `pkkd_tf.quantization.quantize_model` made, whose
            layers and tensors then keep their ranges, its adder layers their bits.
        images: float32 array (N, H, W, C), calibration images.
        delegate: library that computes AdderConv2D; not used where there is no adder layer.
        bits: of the adder layers; None: what the model says, else 8.

    Returns:
        Bytes of the `.tflite` file, and the report of `export.tflite.export_tflite` on it.

    Raises:
        ValueError: `bits` is out of its range.
        ExportError: there is no image, the network cannot be int8, a number of it is not finite,
            `bits` is given where there is no adder layer or the model says otherwise, layers of
            rounded numbers are not those of `quantize_model`, or the file differs from the integer
            reference: an adder layer at all, another operator by more than one step.

    Example:
        >>> data, report = make(student, images, "custom_ops/tflite/libadder_delegate.so")
    """
    if images is None or not len(images):
        raise ExportError(
            "int8 needs calibration images, as the network takes them. Received: none"
        )
    images = _real(images)
    _check_weights(model)
    if not has_adder_layers(model):
        _check_without_adders(model, bits)
        data = convert_int8(model, images)
        return data, _report(model, data, None, images)
    data = _quantized(model, images, delegate, bits)
    return data, _report(model, data, delegate, images)


def _quantized(model: keras.Model, images: np.ndarray, delegate: Any, bits: int | None) -> bytes:
    plain, known = model, Known()
    if quantization.tensor_ranges(model):
        plain = quantization.strip_quantization(model)
        known, trained_bits = known_ranges(model, plain, images)
        _check_bits(bits, trained_bits)
        bits = trained_bits
    _check_stripped(plain)
    bits = BITS[1] if bits is None else bits
    data = quantize(convert(plain, "custom_op"), images, delegate, bits, known)
    check_file(data, delegate, images[:CHECKED])
    return data


def _check_without_adders(model: keras.Model, bits: int | None) -> None:
    if bits not in (None, BITS[1]):
        raise ExportError(
            "`bits` are those of adder layers, of which the network must have some. "
            f"Received: bits={bits}, adder layers=0"
        )
    if rounded_layers(model):
        raise ExportError(
            "A network fine-tuned in rounded numbers must have adder layers, else export what "
            "`pkkd_tf.quantization.strip_quantization` makes of it: TFLite's own int8 finds "
            f"its ranges by itself. Received: model={model.name!r}, adder layers=0"
        )


def _real(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype.kind not in "fiu":
        raise ExportError(
            f"Calibration images must be real numbers. Received: dtype={images.dtype}"
        )
    return images.astype(np.float32)


def _check_weights(model: keras.Model) -> None:
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(values).all():
            raise ExportError(
                "All weights of an int8 network must be finite numbers. "
                f"Received: weight={variable.path}, values that are not finite="
                f"{np.sum(~np.isfinite(values))} of {values.size}"
            )


def _check_bits(given: int | None, trained: int) -> None:
    if given not in (None, trained):
        raise ExportError(
            "`bits` must be left out, or be those that the network was fine-tuned in. "
            f"Received: bits={given}, the network's={trained}"
        )


def _check_stripped(model: keras.Model) -> None:
    """What is left of rounding now would be lost without a word."""
    left = [layer.name for layer in rounded_layers(model)]
    if left:
        raise ExportError(
            "Layers of rounded numbers must be those of a network that quantize_model made, by "
            f"itself and not inside another one. Received: layers={left}"
        )


@full_float32()
def _report(model: keras.Model, data: bytes, delegate: Any, images: np.ndarray) -> dict[str, Any]:
    network = Network(data, delegate, num_threads=2)
    batches = [images[first : first + 64] for first in range(0, len(images), 64)]
    right = [named(model, model(batch, training=False)) for batch in batches]
    own = [network.named(batch) for batch in batches]
    return report_of(
        {name: _compared(name, _joined(own, name), _joined(right, name)) for name in right[0]}
    )


def _joined(parts: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.concatenate([np.asarray(part[name]) for part in parts])


def _compared(name: str, actual: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """What the report says of one output, by what the file and the network gave."""
    exact = expected.astype(np.float64)
    error = np.sqrt(np.mean((actual - exact) ** 2) / max(np.mean(exact**2), 1e-30))
    if not np.isfinite(error):
        raise ExportError(
            "The int8 file and the network must give finite numbers; it was not written. Received: "
            f"output={name!r}, of the network's not finite={np.mean(~np.isfinite(exact)):.1%}, "
            f"difference={error}"
        )
    agreement = np.mean(actual.argmax(-1) == expected.argmax(-1))
    return {
        "difference": float(error),
        "agreement": float(agreement),
        "alive": bool((expected != expected[0]).any()),
    }
