"""Outputs that are either complete or not there, whatever happens in between."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments import atomic, folders
from experiments.errors import stating
from export.program import ExportError

RULE = "--output must be a place that can be written, with room for all of it."


def check_free(
    path: str | os.PathLike, overwrite: bool, replaceable: Callable[[Path], bool]
) -> Path:
    """Refuses to write where nothing can be written, and over what exists.

    The latter unless asked to and it is the program's own kind.

    Args:
        path: the output.
        overwrite: whether the user asked to replace it.
        replaceable: whether an existing path holds what the program itself would write.

    Returns:
        `path`, absolute.

    Raises:
        ExportError: something is there that must not be replaced, or no file could be put there.
    """
    path = Path(path).absolute()
    if os.path.lexists(path):
        _check_replaceable(path, overwrite, replaceable)
    check_writable(path)
    return path


def _check_replaceable(path: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    if not overwrite:
        raise ExportError(
            f"--output must not exist, or --overwrite be given. Received: output='{path}'"
        )
    if path.is_symlink() or not replaceable(path):
        raise ExportError(
            "--overwrite replaces only what this program writes, here something else lies. "
            f"Received: output='{path}'"
        )


def check_writable(path: Path) -> None:
    """Raises `ExportError` for an output that could not be written once all is computed."""
    if found := folders.obstacle(path.parent):
        raise ExportError(
            f"--output must be a path that can be written. Received: output='{path}', where {found}"
        )


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """As `experiments.atomic.write_files`, with an `ExportError` where they cannot be written."""
    with stating(RULE, ExportError):
        atomic.write_files(folder, contents)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path`; it becomes `path` if the block ends without error.

    What lay at `path` is replaced at the end in two renames; until then nothing is touched. An
    `OSError` in the block becomes an `ExportError` that names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    with stating(RULE, ExportError), atomic.naming(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not path.exists():
                old.rename(path)
            shutil.rmtree(old, ignore_errors=True)
