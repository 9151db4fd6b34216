"""One training of the queue: its name, its command, and which of its flags make it another one."""

import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import rows
from experiments.errors import RunError
from experiments.identity import ALTERING, FREE

# What the queue sets, itself or by a row's flagfile, and what would make another kind of run.
SET = frozenset(
    ("flagfile", "dataset", "model", "method", "seed", "epochs", "batch_size", "data_dir")
    + ("output", "resume", "requeue", "verbose", "smoke", "compare_plain")
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: a row, its seed, and how.

    Attributes:
        row: `benchmarks.rows.Row`.
        seed: int.
        epochs: int.
        batch_size: int.
        flags: tuple of str, further flags, each as `--name=value`, `--name` or `--noname`.
    """

    row: rows.Row
    seed: int
    epochs: int
    batch_size: int
    flags: tuple[str, ...] = ()

    @property
    def changed(self) -> list[str]:
        """Those of its further flags that change the result, by name."""
        neutral = set(FREE) - set(ALTERING)
        return sorted((f for f in self.flags if flag_name(f) not in neutral), key=flag_name)

    @property
    def name(self) -> str:
        """`cifar10_resnet20_pkkd_400_epochs_batch_256_seed_0`; flags that change it before seed."""
        row = self.row.name.replace("/", "_")
        length = f"{self.epochs}_epochs_batch_{self.batch_size}"
        own = [re.sub(r"[^\w.+-]+", "_", flag.lstrip("-")) for flag in self.changed]
        return "_".join([self.row.dataset, row, length, *own, f"seed_{self.seed}"])

    @property
    def teacher(self) -> "Run | None":
        """The run whose network this one is taught by, which must be done before."""
        return self.row.teacher and dataclasses.replace(self, row=self.row.teacher)

    def command(self, options: dict[str, Any]) -> list[str]:
        """The training as a command that begins or goes on."""
        own = [f"--seed={self.seed}", f"--epochs={self.epochs}", f"--batch_size={self.batch_size}"]
        place = [f"--data_dir={options['data_dir']}", f"--output={self.folder(options)}"]
        common = ["--requeue", "--verbose=2", *self.flags]
        program = [sys.executable, "-m", "experiments.cifar"]
        command = [*program, *self.row.flags(), *own, *place, *common]
        if self.teacher is None:
            return command
        file = str(self.teacher.folder(options) / "student.keras")
        return [word.replace(rows.TEACHER, file) for word in command]

    def folder(self, options: dict[str, Any]) -> Path:
        """Where the run writes."""
        return Path(options["output"]) / self.name


def flag_name(flag: str) -> str:
    """`student_alignment` of `--nostudent_alignment` and of `--student_alignment=false`."""
    name, _, value = flag.lstrip("-").partition("=")
    return name if value or not name.startswith("no") else name.removeprefix("no")


def check_flags(flags: Iterable[str], runs: Iterable[Run]) -> None:
    """Raises `RunError` for a further flag that is none, or that the queue or a row sets."""
    of_rows = {flag_name(flag) for run in runs for flag in run.row.flags()}
    for flag in flags:
        if not re.fullmatch(r"--?[a-z]\w*(=.*)?", flag, re.DOTALL):
            raise RunError(
                f"--flag must be one flag, as --flag=--NAME=VALUE. Received: flag={flag}"
            )
        if flag_name(flag) in SET | of_rows:
            raise RunError(
                "--flag must not set what the queue or one of the rows sets. "
                f"Received: flag={flag}; set are {', '.join(sorted(SET | of_rows))}"
            )
