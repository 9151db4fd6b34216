"""Output folders, looked at before anything is computed."""

import os
from pathlib import Path

from experiments.errors import RunError


def check_writable(folder: Path) -> None:
    """Raises `RunError` for an --output that could not be made or written after hours of work."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RunError(
            f"--output must be a folder that can be made and written. Received: output={folder}, "
            f"where {nearest} cannot"
        )
