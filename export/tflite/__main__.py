"""Writes a network as a `.tflite` file, float32, for any number of images.

    python -m export.tflite --model=runs/r20/student.keras --output=r20.tflite
    python -m export.tflite --model=runs/r20/student.keras --output=r20.tflite --format=custom_op

    portable    builtin operators only: every interpreter and benchmark tool runs it
    custom_op   one operator AdderConv2D a layer, with batch normalization, residual addition and
                ReLU fused in: much faster, for interpreters that load the delegate of
                `python -m custom_ops.build_delegate`

The outputs are compared with the network's before the file is written.
"""

from absl import flags

from export import program
from export.tflite import FORMATS, export_tflite


def main() -> None:
    """Reads the flags, exports, and says what was written."""
    report = export_tflite(
        flags.FLAGS.model,
        flags.FLAGS.output,
        flags.FLAGS.format,
        flags.FLAGS.delegate,
        flags.FLAGS.overwrite,
    )
    print("operators: " + ", ".join(f"{n} {name}" for name, n in report["operators"].items()))
    if not report["alive"]:
        print("the outputs do not depend on the image, so comparing them says little")
    print(f"outputs equal the network's to {report['difference']:.1e}")
    print(f"output: {flags.FLAGS.output} ({report['bytes']:,} bytes)")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "A network as .keras file.", required=True)
    flags.DEFINE_string("output", None, "The file to write.", required=True)
    flags.DEFINE_enum("format", "portable", FORMATS, "Which operators the file holds.")
    flags.DEFINE_string("delegate", None, "Library for custom_op; None: the one built here.")
    flags.DEFINE_bool("overwrite", False, "Replace a .tflite file at --output.")
    program.run(main)
