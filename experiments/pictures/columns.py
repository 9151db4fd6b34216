"""Columns of numbers from a run's CSV files."""

import csv
import os

import numpy as np


def read_columns(
    path: str | os.PathLike, texts: tuple[str, ...] = ()
) -> dict[str, np.ndarray | list[str]]:
    """Returns column name -> numbers, NaN where a cell is empty or its row was cut off.

    Columns without any number are left out, so that a run which never measured something and one
    which has no such column look the same.

    Args:
        path: a CSV file with a header.
        texts: columns to return as lists of text.

    Raises:
        ValueError: no row, or a cell that is no number.
    """
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(
            "The file must have a header and at least one row. "
            f"Received: path={os.fspath(path)!r} with no row"
        )
    names = [name for name in rows[0] if name is not None]
    columns = {
        name: (
            [row[name] or "" for row in rows]
            if name in texts
            else np.array([_number(row[name], path, name, index) for index, row in enumerate(rows)])
        )
        for name in names
    }
    return {
        name: values
        for name, values in columns.items()
        if name in texts or np.isfinite(values).any()
    }


def _number(cell: str | None, path: str | os.PathLike, name: str, index: int) -> float:
    if cell is None or not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError:
        raise ValueError(
            "Every cell below the header must be a number or empty. "
            f"Received: {cell!r} in path={os.fspath(path)!r}, column={name!r}, row={index + 1}"
        ) from None
