"""The state of a run on disk: written whole or not at all, checked before it is used."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import keras

from experiments.atomic import write_files
from experiments.errors import RunError

KEEP = 2


class Position(NamedTuple):
    """Where a run stands: the next step of the next epoch."""

    epoch: int
    step: int


class Checkpoints:
    """Saves and restores the whole training state in `folder`.

    A checkpoint is two files: `NAME.keras` (both networks, both optimizers, the feature loss's
    state; `keras.models.load_model` reads it too) and `NAME.json` (position, identity of the run,
    SHA-256 of the first). The JSON file is written last and by renaming, so a checkpoint that has
    one is complete.

    Args:
        folder: where the files go; created at the first save.
        identity: what must not change from one part of a run to the next (flags, say).
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))

    def save(self, model: keras.Model, position: Position) -> None:
        """Writes the state, then forgets all but the newest checkpoints.

        Raises:
            RunError: disk full or not writable; earlier checkpoints are untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"epoch_{position.epoch:05d}_step_{position.step:07d}"
        state = self.folder / f"{name}.keras"
        partial = self.folder / f"partial_{name}.keras"
        try:
            # Not save_weights: its HDF5 library ends the process when the disk is full.
            model.save(partial)
            _sync(partial)
            record = {**position._asdict(), "identity": self.identity, "sha256": _digest(partial)}
            os.replace(partial, state)
            text = json.dumps(record, indent=2, sort_keys=True)
            write_files(self.folder, {f"{name}.json": text.encode()})
        except OSError as error:
            raise RunError(
                "The state must be written after every epoch; earlier checkpoints are intact, "
                f"--resume goes on from the last. Received: {error}, writing to {self.folder}"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        self._forget()

    def restore(self, model: keras.Model) -> Position | None:
        """Loads the newest checkpoint; None if there is none.

        Raises:
            RunError: it is damaged, or of another run. Nothing is changed then.
        """
        newest = self.newest()
        if newest is None:
            return None
        record = _read_json(newest)
        state = _state_of(newest)
        self._check_identity(newest, record)
        if not state.is_file() or _digest(state) != record.get("sha256"):
            raise RunError(
                "A checkpoint must hold exactly what was written. It is damaged; delete its .json "
                f"file to go on from the one before. Received: {state}"
            )
        model.load_weights(state)
        return Position(record["epoch"], record["step"])

    def newest(self) -> Path | None:
        """The JSON file of the newest complete checkpoint."""
        names = sorted(self.folder.glob("epoch_*.json"))
        return names[-1] if names else None

    def _check_identity(self, path: Path, record: dict[str, Any]) -> None:
        theirs = record.get("identity", {})
        keys = sorted(set(theirs) | set(self.identity))
        different = [k for k in keys if theirs.get(k) != self.identity.get(k)]
        if different:
            values = ", ".join(f"{k}: {theirs.get(k)} -> {self.identity.get(k)}" for k in different)
            raise RunError(
                "A run must be resumed with the settings it was started with. "
                f"Received: {path}, {values}"
            )

    def _forget(self) -> None:
        for path in sorted(self.folder.glob("epoch_*.json"))[:-KEEP]:
            path.unlink()
            _state_of(path).unlink(missing_ok=True)


def _state_of(path: Path) -> Path:
    return path.with_suffix(".keras")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(
            f"A checkpoint's .json file must be readable JSON. Received: {path}: {error}"
        ) from error
