"""The energy report of a network, or of two side by side.

    python -m export.energy --model=student.keras [--compare=teacher.keras] [--output=DIR]
    python -m export.energy --model=student.tflite [--compare=teacher.tflite]

Prints, for every layer and in total: multiplications, additions, memory traffic, and the energy by
computation alone and with memory. With --output also energy.json and energy.png. A .tflite file is
counted operator by operator, in the number format of its tensors, float32 or int8.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.folders import check_writable
from export import program
from export.energy import measure, picture, report, sources, table
from export.energy.constants import HOROWITZ, read_constants
from export.energy.estimate import estimate
from export.energy.sources import Source
from export.program import ExportError
from export.writing import write_files

DEFAULT_BITS = [32, 8]


def main() -> None:
    """Reads the flags, estimates, prints and writes."""
    options = flags.FLAGS
    if options.output:
        check_writable(Path(options.output))
    asked = None if options.bits is None else _bits(options.bits)
    constants = read_constants(options.constants) if options.constants else HOROWITZ
    flagged = {options.compare: "--compare", options.model: "--model"}
    named = sources.named([sources.read(f, flag) for f, flag in flagged.items() if f])
    widths = _widths(list(named.values()), asked)
    networks = {
        name: [estimate(source.records, width, constants) for width in widths[source.file]]
        for name, source in named.items()
    }
    memory_model = sources.memory_model(named.values())
    print(table.text(networks, constants, memory_model))
    measured = _measured(named) if options.measure else None
    if options.output:
        files = {name: source.file for name, source in named.items()}
        document = report.as_json(networks, constants, files, measured, memory_model)
        contents = {"energy.json": document, "energy.png": picture.bars(networks)}
        write_files(Path(options.output), contents)
        print(f"output: {options.output}")


def _bits(texts: list[str]) -> list[int]:
    if not texts or not all(text in ("32", "16", "8") for text in texts):
        raise ExportError(f"--bits must be out of 32, 16 and 8. Received: bits={texts}")
    return [int(text) for text in dict.fromkeys(texts)]


def _widths(read: Sequence[Source], asked: list[int] | None) -> dict[str, list[int]]:
    """File -> number formats: a .tflite file's own, and beside one the same for a .keras file."""
    for source in read:
        if source.bits is not None and asked not in (None, [source.bits]):
            raise ExportError(
                "--bits must be what a .tflite file's tensors have, or be left out. "
                f"Received: bits={asked}, '{source.file}' has {source.bits}"
            )
    given = [source.bits for source in read if source.bits is not None]
    default = asked or given or DEFAULT_BITS
    return {s.file: default if s.bits is None else [s.bits] for s in read}


def _measured(named: Mapping[str, Source]) -> dict[str, Any]:
    """Joules an image on this machine, or why there are none; the estimate stands either way."""
    try:
        counters = measure.EnergyCounters()
    except ExportError as error:
        print(f"\nnot measured: {error}")
        return {"reason": str(error)}
    print("\nmeasured on this machine: processor packages, one image at a time, .keras in float32")
    measured = {}
    for name, source in named.items():
        result = measure.measure(source.inference(), counters)
        print(
            f"{name}: {result.joules_per_image:.3g} J an image, "
            f"{result.joules_per_image_above_idle:.3g} J of it above the idle machine's "
            f"{result.idle_watts:.3g} W; {result.images} images in {result.seconds:.2f} s"
        )
        measured[name] = dataclasses.asdict(result)
    return measured


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "A network: .keras or .tflite.", required=True)
    flags.DEFINE_string("compare", None, "Another one to set beside it, as the teacher.")
    flags.DEFINE_list("bits", None, "Of 32, 16 and 8; None: 32,8, or what a .tflite file has.")
    flags.DEFINE_string("constants", None, "JSON file with other constants than Horowitz'.")
    flags.DEFINE_string("output", None, "Folder for energy.json and energy.png; None: print only.")
    flags.DEFINE_bool("measure", False, "Also measure joules by the processor's counters.")
    program.run(main)
