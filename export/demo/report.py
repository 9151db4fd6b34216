"""report.md, report.html and figures.json."""

import os
from pathlib import Path
from typing import Any

from export.demo import facts, pictures, sections, verdict
from export.demo.document import markdown, page
from export.demo.figures_json import as_json
from export.demo.measuring import Figures, Setting
from export.energy import picture as energy_picture
from export.program import ExportError
from export.writing import write_files

REPORTS = ("report.md", "report.html")
FIGURES = "figures.json"


def check_free(output: str | os.PathLike) -> None:
    """Refuses a folder whose report is of something else.

    Raises:
        ExportError: there is a report, but not one of this program.
    """
    folder = Path(output)
    if not (folder / FIGURES).exists() and any((folder / name).exists() for name in REPORTS):
        raise ExportError(
            "--output must be a new folder or one of an earlier report of this program; here lies "
            f"another report. Received: output='{output}'"
        )


def write_report(output: str | os.PathLike, setting: Setting, figures: Figures) -> list[str]:
    """Writes the report in every form.

    Args:
        output: folder.
        setting: what was measured.
        figures: the figures.

    Returns:
        Lines for the terminal: the table of files, and the sentences that judge.
    """
    folder, known = Path(output), facts.collect()
    title = f"An adder network and its teacher as .tflite files, {setting.dataset}"
    pictures.draw_files(figures, folder / "files.png")
    files = sections.files(figures, (folder / "files.png").read_bytes())
    energy = energy_picture.bars(_panels(figures))
    document = [
        sections.verdicts(figures),
        files,
        sections.latency(setting, figures),
        sections.energy(figures, energy),
        sections.repeat(output, setting),
        sections.environment(known, figures),
    ]
    contents = {
        "energy.png": energy,
        "report.md": markdown(title, document).encode(),
        "report.html": page(title, document).encode(),
        FIGURES: as_json(setting, figures, known),
    }
    write_files(folder, contents)
    lines = markdown(title, [files]).split("\n\n")[2]
    return [lines, verdict.latency(figures), verdict.energy(figures)]


def _panels(figures: Figures) -> dict[str, Any]:
    """The networks of the picture: each in float32 and int8."""
    named = {"CNN teacher": ("CNN float32", "CNN int8")}
    named["ANN student"] = ("ANN float32, custom_op", "ANN int8")
    return {name: [figures.files[f].energy for f in files] for name, files in named.items()}
