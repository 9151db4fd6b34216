"""The two logs of a run: history.csv, a row an epoch; layers.csv, a row a layer and epoch."""

import csv
import io
from pathlib import Path
from typing import Any

from experiments.atomic import write_files
from experiments.errors import stating

RULE = "The logs must be written from time to time; --resume goes on from the last checkpoint."


class Table:
    """A CSV file that is rewritten whole, so that it is never half a file.

    Args:
        path: the file; rows that are there are read if `keep` is set.
        keep: epochs of an earlier part of the run whose rows stay; later rows are dropped.
    """

    def __init__(self, path: str | Path, keep: int = 0):
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self._changed = False
        if keep and self.path.is_file():
            with open(self.path, newline="") as file:
                self.rows = [r for r in csv.DictReader(file) if int(r["epoch"]) <= keep]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows, which `write` writes; new columns may appear at any time."""
        self.rows += rows
        self._changed = self._changed or bool(rows)

    def write(self) -> None:
        """Writes the file if rows were added.

        Raises:
            RunError: disk full or not writable; a later `write` tries again.
        """
        if not self._changed:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with stating(RULE):
            write_files(self.path.parent, {self.path.name: text.getvalue().encode()})
        self._changed = False

    def column(self, name: str) -> list[float]:
        """The numbers of a column, without the rows that lack it."""
        return [float(row[name]) for row in self.rows if row.get(name) not in (None, "")]
