"""Writes a network as a SavedModel that runs wherever TensorFlow runs, without this package.

    python -m export.saved_model --model=runs/r20/student.keras --output=r20 --dataset=cifar10

Two signatures, both for one image or many:

    serving_default   images: float32 (N, H, W, C), preprocessed as in training -> logits
    serving_uint8     images: uint8 (N, H, W, C), as they come from a file      -> logits

A network of several outputs gives them by their names (`export.outputs.output_names`).

The second needs to know the preprocessing, (pixel * scale - mean) / std: from `--dataset`, or
`--mean`, `--std` and `--scale`. Adder layers are traced into stock TensorFlow operations, or with
`--compiled` into the compiled one: faster, but the reader must call `pkkd_tf.ops.compiled.load()`
first. Weights and arithmetic are float32. No gradients are written: it is for inference.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from export import preprocessing, program, writing
from export.full_float32 import full_float32
from export.outputs import named
from export.program import ExportError
from pkkd_tf.data.augmentation import normalize
from pkkd_tf.ops import compiled, use_path

TOLERANCE = 1e-4
UNKNOWN_SIZE = 32  # pixels, of the images that a network for any size is checked with
Signatures = dict[str, Any]


def export_saved_model(
    model_path: str | os.PathLike,
    output: str | os.PathLike,
    preprocessing: dict[str, Any] | None = None,
    use_compiled: bool = False,
    overwrite: bool = False,
) -> float:
    """Writes the SavedModel, reads it again and compares its outputs with the network's.

    Args:
        model_path: a `.keras` file.
        output: the folder to write; complete or not there at all.
        preprocessing: dict with `mean`, `std` and `scale` of the second signature, or None for
            the first signature alone.
        use_compiled: keep the compiled operation.
        overwrite: replace a SavedModel at `output`.

    Returns:
        The largest difference from the network's outputs, relative to the largest number of each.

    Raises:
        ExportError: the model cannot be read, `output` is taken, the compiled operation is not
            available, or outputs differ by more than 1e-4 (nothing is written then).

    Example:
        >>> export_saved_model("student.keras", "served", preprocessing={
        ...     "mean": (0.305,), "std": (0.376,), "scale": 1 / 16})
        2.3e-07

    Limits: float32 sums depend on their order, and deep networks amplify that: an untrained
    ResNet-50 of adders came to 5e-5.
    """
    if use_compiled and not compiled.is_available():
        raise ExportError(
            "--compiled needs the compiled operations: run python -m custom_ops.build. "
            f"Received: {compiled.why_unavailable()}"
        )
    output = writing.check_free(output, overwrite, _is_saved_model)
    model = program.load_network(model_path)
    _check_channels(model, preprocessing)
    path = "compiled" if use_compiled else "reference"
    with writing.complete_folder(output) as folder, use_path(path):
        _write(model, folder, preprocessing)
        return _check_outputs(model, folder, preprocessing)


def _write(model: keras.Model, folder: Path, preprocessing: dict[str, Any] | None) -> None:
    module = tf.Module()
    module.parameters = [variable.value for variable in model.variables]
    signatures = _signatures(model, preprocessing)
    with program.tracing(model):
        for function in signatures.values():
            function.get_concrete_function()
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, folder, signatures=signatures, options=options)
    except tf.errors.OpError as error:
        reason = error.message.split("; ")[-1].split(" [Op")[0]  # behind an internal name
        raise OSError(reason) from error


def _signatures(model: keras.Model, preprocessing: dict[str, Any] | None) -> Signatures:
    shape = (None, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(model, model(images, training=False))

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, "images")], autograph=False)
    def serve_uint8(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve(normalize(images, preprocessing or {}))

    return {"serving_default": serve} | ({"serving_uint8": serve_uint8} if preprocessing else {})


@full_float32()
def _check_outputs(model: keras.Model, folder: Path, preprocessing: dict[str, Any] | None) -> float:
    """Compares what was written with the network's own graph, for one image and for three."""
    shape = tuple(size or UNKNOWN_SIZE for size in model.inputs[0].shape[1:])
    signatures = tf.saved_model.load(folder).signatures
    network = tf.function(lambda images: model(images, training=False), autograph=False)
    random = np.random.default_rng(0)
    differences = []
    for count in (1, 3):
        images = random.standard_normal((count, *shape)).astype("float32")
        pairs = {"serving_default": (images, images)}
        if preprocessing:
            white = min(round(1 / preprocessing["scale"]), 255)
            pixels = random.integers(0, white + 1, images.shape).astype("uint8")
            pairs["serving_uint8"] = (pixels, _checked_images(pixels, preprocessing))
        for name, (received, normal) in pairs.items():
            actual = signatures[name](tf.constant(received))
            for output, expected in named(model, network(tf.constant(normal))).items():
                same = actual[output].numpy(), expected.numpy()
                differences.append(_checked_difference(f"{name}, {output}", *same))
                if count > 1 and np.ptp(expected, axis=0).max() == 0:
                    _warn_of_one_output(name, output, expected[0])
    return max(differences)


def _warn_of_one_output(name: str, output: str, values: Any) -> None:
    warnings.warn(
        "The network gives one and the same output for different images, so that comparing "
        f"outputs says little. Received: signature={name!r}, {output}={values}",
        stacklevel=4,
    )


def _checked_images(pixels: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    """The images that the network is given; deep networks amplify even their last bits."""
    mean, std = np.array(preprocessing["mean"]), np.array(preprocessing["std"])
    images = normalize(pixels, preprocessing).numpy()
    _checked_difference("images", images, (pixels * preprocessing["scale"] - mean) / std)
    return images


def _checked_difference(name: str, actual: np.ndarray, expected: np.ndarray) -> float:
    difference = float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= TOLERANCE:  # also where it is not a number
        raise ExportError(
            "The SavedModel must give the network's outputs; it was not kept. Received: "
            f"compared={name!r}, relative difference {difference:.3g} of at most {TOLERANCE:g}"
        )
    return difference


def _check_channels(model: keras.Model, preprocessing: dict[str, Any] | None) -> None:
    channels = model.inputs[0].shape[-1]
    if preprocessing and len(preprocessing["mean"]) not in (1, channels):
        raise ExportError(
            "The preprocessing must have one value, or one a channel of the network's images. "
            f"Received: mean={preprocessing['mean']}, channels={channels}"
        )


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def main() -> None:
    """Reads the flags, exports, and says what was written."""
    values = preprocessing.from_flags()
    difference = export_saved_model(
        flags.FLAGS.model,
        flags.FLAGS.output,
        values,
        use_compiled=flags.FLAGS.compiled,
        overwrite=flags.FLAGS.overwrite,
    )
    print(f"signatures: serving_default{', serving_uint8' if values else ''}")
    if not values:
        print("without --dataset or --mean and --std there is no signature for uint8 images")
    print(f"outputs equal the network's to {difference:.1e}")
    print(f"output: {flags.FLAGS.output}")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "A network as .keras file.", required=True)
    flags.DEFINE_string("output", None, "The folder to write.", required=True)
    flags.DEFINE_bool("compiled", False, "Keep the compiled operation instead of stock ones.")
    flags.DEFINE_bool("overwrite", False, "Replace a SavedModel at --output.")
    preprocessing.define_flags()
    program.run(main)
