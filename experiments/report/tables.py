"""Markdown tables, and figures as a reader wants to see them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MISSING = "-"
PREFIXES = ((1e9, 1e9, "G"), (1e5, 1e6, "M"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(_cell(item) for item in line) + " |" for line in lines)


def pairs(mapping: Mapping[str, Any], header: Sequence[str] = ("", "")) -> str:
    """Returns a two-column table of `mapping`, both columns to the left."""
    rows = [[str(key), str(value)] for key, value in mapping.items()]
    return table(header, rows).replace("---:", "---")


def grid(
    entries: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, str],
    show: Callable[[str, Any], str],
) -> str:
    """Returns a table with one line an entry and the known `columns` (key -> title) that occur.

    Args:
        entries: name -> {key: value}; an absent key leaves a "-".
        columns: the known keys and their titles, in order; other keys follow under their own name.
        show: function (key, value) -> text.
    """
    found = list(dict.fromkeys(key for entry in entries.values() for key in entry))
    keys = [key for key in columns if key in found] + [key for key in found if key not in columns]
    titles = [columns.get(key, words(key)) for key in keys]
    rows = [[name, *(show(key, entry.get(key)) for key in keys)] for name, entry in entries.items()]
    return table(["", *titles], rows)


def words(key: str) -> str:
    """Returns an identifier as words: "images_per_second" -> "images per second"."""
    return key.replace("_", " ")


def percent(value: Any) -> str:
    """Returns a fraction in per cent, with two decimals as in the published tables."""
    return _number(value, lambda x: f"{100 * x:.2f} %")


def count(value: Any) -> str:
    """Returns a count, with the published tables' M or G in front from 100,000 on."""
    return _number(value, _count)


def _count(value: float) -> str:
    for start, size, prefix in PREFIXES:
        if value >= start:
            return f"{value / size:,.2f} {prefix} ({value:,.0f})"
    return f"{value:,.0f}"


def seconds(value: Any) -> str:
    """Returns a duration: "0.25 s", "41.3 s", "12 min 05 s", "3 h 20 min"."""
    return _number(value, _seconds)


def _seconds(value: float) -> str:
    if value < 59.95:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def figure(value: Any) -> str:
    """Returns a number with four digits that count, any other value as text."""
    return _number(value, lambda x: f"{x:.4g}" if abs(x) < 1e4 else f"{x:,.0f}")


def _number(value: Any, form: Callable[[float], str]) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return form(value)


def _cell(item: str) -> str:
    return " ".join(item.replace("|", "\\|").split())
