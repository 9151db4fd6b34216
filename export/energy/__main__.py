"""The energy report of a network, or of two side by side.

    python -m export.energy --model=student.keras [--compare=teacher.keras] [--output=DIR]

Prints, for every layer and in total: multiplications, additions, memory traffic, and the energy by
computation alone and with memory. With --output also energy.json and energy.png.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from absl import flags

from export import program, writing
from export.energy import measure, picture, report, table
from export.energy.constants import HOROWITZ, read_constants
from export.energy.estimate import estimate
from export.energy.keras_records import keras_records
from export.program import ExportError
from pkkd_tf.analysis import count_operations


def main() -> None:
    """Reads the flags, estimates, prints and writes."""
    options = flags.FLAGS
    bits = _bits(options.bits)
    constants = read_constants(options.constants) if options.constants else HOROWITZ
    flagged = {options.compare: "--compare", options.model: "--model"}
    loaded = {file: program.load_network(file, flag) for file, flag in flagged.items() if file}
    files = _names(loaded)
    models = {name: loaded[file] for name, file in files.items()}
    networks = {}
    for name, model in models.items():
        records = keras_records(model)
        networks[name] = [estimate(records, width, constants) for width in bits]
    print(table.text(networks, constants))
    measured = _measured(models) if options.measure else None
    if options.output:
        document = report.as_json(networks, constants, files, measured)
        contents = {"energy.json": document, "energy.png": picture.bars(networks)}
        writing.write_files(options.output, contents)
        print(f"output: {options.output}")


def _bits(texts: list[str]) -> list[int]:
    if not texts or not all(text in ("32", "16", "8") for text in texts):
        raise ExportError(f"--bits must be out of 32, 16 and 8. Received: bits={texts}")
    return [int(text) for text in dict.fromkeys(texts)]


def _names(models: Mapping[str, keras.Model]) -> dict[str, str]:
    """Name -> file: CNN or ANN with the file's name, or its path where that is not enough."""
    kinds = {file: _kind(model) for file, model in models.items()}
    names = {f"{kind} {Path(file).stem}": file for file, kind in kinds.items()}
    if len(names) < len(kinds):
        names = {f"{kind} {file}": file for file, kind in kinds.items()}
    return names


def _kind(model: keras.Model) -> str:
    """ANN, a network with adder layers, or CNN."""
    types = [operations.type for operations in count_operations(model)]
    return "ANN" if any(type_.startswith("Adder") for type_ in types) else "CNN"


def _measured(models: Mapping[str, keras.Model]) -> dict[str, Any]:
    """Joules an image on this machine, or why there are none; the estimate stands either way."""
    try:
        counters = measure.EnergyCounters()
    except ExportError as error:
        print(f"\nnot measured: {error}")
        return {"reason": str(error)}
    print("\nmeasured on this machine: processor packages, float32, one image at a time")
    measured = {}
    for name, model in models.items():
        result = measure.measure(measure.inference(model), counters)
        print(
            f"{name}: {result.joules_per_image:.3g} J an image, "
            f"{result.joules_per_image_above_idle:.3g} J of it above the idle machine's "
            f"{result.idle_watts:.3g} W; {result.images} images in {result.seconds:.2f} s"
        )
        measured[name] = dataclasses.asdict(result)
    return measured


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "A network as .keras file.", required=True)
    flags.DEFINE_string("compare", None, "Another one to set beside it, as the teacher.")
    flags.DEFINE_list("bits", ["32", "8"], "Of 32 (fp32), 16 (fp16) and 8 (int8).")
    flags.DEFINE_string("constants", None, "JSON file with other constants than Horowitz'.")
    flags.DEFINE_string("output", None, "Folder for energy.json and energy.png; None: print only.")
    flags.DEFINE_bool("measure", False, "Also measure joules by the processor's counters.")
    program.run(main)
