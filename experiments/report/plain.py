"""A report's values in JSON's own types, and its files relative to its folder."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any, name: str = "report") -> Any:
    """Returns `value` in JSON's own types, losing nothing.

    Mappings get text keys; tuples, sets and arrays become lists; NumPy and Keras scalars become
    numbers; paths become text. JSON has no NaN and no infinities: they become the texts "NaN",
    "Infinity" and "-Infinity".

    Args:
        value: what is to be written.
        name: what `value` is called in an error's text.

    Raises:
        TypeError: a value that JSON cannot hold.
        ValueError: two keys of one mapping have the same text.

    Example:
        >>> plain({"loss": np.float32(0.5), "shape": (8, 8, 1)})
        {'loss': 0.5, 'shape': [8, 8, 1]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _infinite(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, name)
    if isinstance(value, list | tuple):
        return [plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return plain(sorted(value), name)
    if isinstance(value, np.generic | np.ndarray) and value.dtype != object:
        return plain(value.tolist(), name)
    raise TypeError(
        "A report must hold numbers, texts, None, lists and dictionaries. "
        f"Received: {name}={value!r} of type {type(value).__name__}"
    )


def _infinite(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _plain_mapping(mapping: Mapping, name: str) -> dict[str, Any]:
    result = {str(key): plain(item, f"{name}[{key!r}]") for key, item in mapping.items()}
    if len(result) != len(mapping):
        raise ValueError(
            "The keys of a mapping in a report must differ as texts. "
            f"Received: keys of {name}={list(mapping)}"
        )
    return result


def relative(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """Returns `path` as a link from `folder`, with forward slashes.

    A relative `path` may be relative to `folder` or to the working folder: the one that exists
    counts, `folder` first. A file on its way may be named before it is written.
    """
    path, folder = Path(path), Path(folder)
    if not path.is_absolute() and ((folder / path).exists() or not path.exists()):
        return path.as_posix()
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
