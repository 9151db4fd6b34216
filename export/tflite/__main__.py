"""Writes a network as a `.tflite` file, for any number of images.

    python -m export.tflite --model=runs/r20/student.keras --output=r20.tflite
    python -m export.tflite --model=runs/r20/student.keras --output=r20.tflite --format=custom_op

    portable    builtin operators only: every interpreter and benchmark tool runs it
    custom_op   one operator AdderConv2D a layer, with batch normalization, residual addition and
                ReLU fused in: much faster, for interpreters that load the delegate of
                `python -m custom_ops.build_delegate`
    int8        all tensors and filters int8, from input to output; adder layers by the same
                delegate. Ranges come from calibration images:
                --dataset=cifar10 --calibration_data=FOLDER, or --calibration_data=FILE.npy

A float file's outputs are compared with the network's before it is written. An int8 file is
compared operator by operator with an integer reference: adder layers bit for bit, all others to
one step, as TFLite has several kernels for them. How near it is to the network is printed, with a
warning where it is of no use.
A network without adder layers becomes int8 by TFLite's converter.
"""

import sys

import numpy as np
from absl import flags

from export import program
from export.program import ExportError
from export.tflite import FORMATS, export_tflite, int8, verdict
from pkkd_tf.data import PREPROCESSING


def main() -> None:
    """Reads the flags, exports, and says what was written."""
    values = flags.FLAGS
    _check_flags()
    images = _calibration_images() if values.format == int8.FORMAT else None
    report = export_tflite(
        values.model,
        values.output,
        values.format,
        values.delegate,
        values.overwrite,
        images,
        values.bits,
    )
    for line in verdict.sentences(report, None if images is None else len(images)):
        print(line)
    print(f"output: {values.output} ({report['bytes']:,} bytes)")
    doubt = None if images is None else verdict.warning(report)
    if doubt is not None:
        print(doubt, file=sys.stderr)


def _check_flags() -> None:
    values = flags.FLAGS
    given = values.dataset is not None or values.calibration_data is not None
    if given and values.format != int8.FORMAT:
        raise ExportError(
            "--dataset and --calibration_data are for --format=int8. Received: "
            f"format={values.format}, dataset={values.dataset}, "
            f"calibration_data={values.calibration_data}"
        )


def _calibration_images() -> np.ndarray:
    values = flags.FLAGS
    shape = program.load_network(values.model).inputs[0].shape[1:]
    count = values.calibration_images
    return int8.load_images(shape, values.calibration_data, values.dataset, count)


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "A .keras file, or resnet20_cifar10.", required=True)
    flags.DEFINE_string("output", None, "The file to write.", required=True)
    flags.DEFINE_enum("format", "portable", FORMATS, "Which operators the file holds.")
    flags.DEFINE_string("delegate", None, "Library for adder layers; None: the one built here.")
    flags.DEFINE_enum("dataset", None, sorted(PREPROCESSING), "Calibrate with its training images.")
    flags.DEFINE_string("calibration_data", None, "Its folder, or a .npy file of images.")
    flags.DEFINE_integer("calibration_images", 256, "How many of them, at most.", lower_bound=1)
    flags.DEFINE_integer("bits", None, "Of int8's adder layers; None: the network's, or 8.", 2, 8)
    flags.DEFINE_bool("overwrite", False, "Replace a .tflite file at --output.")
    program.run(main)
