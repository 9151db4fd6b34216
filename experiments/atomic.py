"""Files that are either the old ones or complete new ones, whatever happens in between."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_files(folder: str | os.PathLike, contents: Mapping[str, bytes]) -> None:
    """Writes all of `contents` into `folder`: no file is replaced before every one is on the disk.

    Args:
        folder: created if it is missing.
        contents: file name -> bytes.

    Raises:
        OSError: a file cannot be written, and is named; those that were there stay as they were.

    Example:
        >>> write_files("runs/digits", {"report.json": b"{}"})
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(folder / f".{name}.{os.getpid()}.tmp", folder / name) for name in contents]
    try:
        for (temporary, final), data in zip(pairs, contents.values(), strict=True):
            with naming(final):
                _write(temporary, data)
        for temporary, final in pairs:
            with naming(final):
                os.replace(temporary, final)
        sync(folder)
    finally:
        for temporary, _ in pairs:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An `OSError` in the block names `path`, the file that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{error}: '{path}'") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Waits until a file's contents, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
