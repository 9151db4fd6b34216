"""Output folders, tried before anything is computed."""

import contextlib
import os
import tempfile
from pathlib import Path

from experiments.errors import RunError


def check_writable(folder: Path, flag: str = "--output") -> None:
    """Raises `RunError` for a folder that could not be made or written after hours of work."""
    if found := obstacle(folder):
        raise RunError(
            f"{flag} must be a folder that can be made and written. "
            f"Received: {flag[2:]}={folder}, where {found}"
        )


def obstacle(folder: Path) -> str:
    """What keeps files out of `folder`; empty if one could be written.

    Makes the folder and a file in it. What was not there before is taken away again.
    """
    folder = folder.absolute()
    chain = (folder, *folder.parents)
    new = [path for path in chain if not os.path.exists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
            file.write(b"1")
    except OSError as error:
        return f"{chain[len(new)]} cannot: {error.strerror}"
    finally:
        for path in new:
            with contextlib.suppress(OSError):  # not made, or another program's files are in it
                path.rmdir()
    return ""
