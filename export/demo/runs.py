"""Finds a finished digits run, or makes one."""

import json
import os
import subprocess
import sys
from pathlib import Path

from export.program import ExportError

TRAINING = "experiments.digits"
RUNS = Path("runs")
Pair = tuple[Path, Path]


def find_or_train(
    student: str | os.PathLike | None,
    teacher: str | os.PathLike | None,
    dataset: str,
    output: str | os.PathLike,
    runs: str | os.PathLike = RUNS,
) -> Pair:
    """The files of a student and its teacher.

    Args:
        student: a `.keras` file; None: of the newest digits run in `runs`, else trained now.
        teacher: a `.keras` file; None: `teacher.keras` beside the student.
        dataset: what the networks were trained on; only "digits" is trained here.
        output: a run that is made goes to its folder `training`.
        runs: folder of runs.

    Returns:
        Paths of student and teacher.

    Raises:
        ExportError: a teacher without a student, another data set without a student, or the
            training failed.
    """
    if student is not None:
        student = Path(student)
        return student, Path(teacher) if teacher else student.with_name("teacher.keras")
    if teacher is not None or dataset != "digits":
        raise ExportError(
            "--student must be given with --teacher and with any --dataset but digits. "
            f"Received: student=None, teacher={teacher}, dataset={dataset!r}"
        )
    return _newest(Path(runs)) or _train(Path(output) / "training")


def _newest(runs: Path) -> Pair | None:
    reports = [p for depth in ("*", "*/*") for p in runs.glob(f"{depth}/report.json")]
    pairs = [(p.with_name("student.keras"), p.with_name("teacher.keras")) for p in reports]
    found = [
        pair
        for report, pair in zip(reports, pairs)
        if all(file.is_file() for file in pair) and _is_digits(report)
    ]
    return max(found, key=lambda pair: pair[0].stat().st_mtime, default=None)


def _is_digits(report: Path) -> bool:
    """Whether a finished run, none that only tried, is one on the digits."""
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        smoke = content["flags"].get("smoke", False)
        return content["dataset"]["name"] == "digits" and not smoke
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return False


def _train(folder: Path) -> Pair:
    command = [sys.executable, "-m", TRAINING, f"--output={folder}", "--requeue"]
    print(f"training: {folder}", flush=True)
    done = subprocess.run([*command, "--nocompare_plain"])
    if done.returncode:
        raise ExportError(
            "The digits networks must be trained first. Received: exit status "
            f"{done.returncode} from python -m {TRAINING} --output={folder}"
        )
    return folder / "student.keras", folder / "teacher.keras"
