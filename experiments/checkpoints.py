"""The state of a run on disk: written whole or not at all, checked before it is used."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from experiments.atomic import sync, write_files
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
    one was complete. Two are kept: where the newest is damaged all the same, the other serves.

    Args:
        folder: where the files go; created at the first save.
        identity: what must not change from one part of a run to the next (flags, say).
        free: names that may, whatever older checkpoints hold of them.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any], free: Iterable[str] = ()):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))
        self.free = frozenset(free)

    def save(self, model: keras.Model, position: Position) -> None:
        """Writes the state, then forgets older checkpoints, and those of a future given up.

        Raises:
            RunError: disk full or not writable; earlier checkpoints are untouched.
        """
        name = f"epoch_{position.epoch:05d}_step_{position.step:07d}"
        state = self.folder / f"{name}.keras"
        partial = self.folder / f"partial_{name}.keras"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not save_weights: its HDF5 library ends the process when the disk is full.
            model.save(partial)
            sync(partial)
            record = {**position._asdict(), "identity": self.identity, "sha256": _digest(partial)}
            os.replace(partial, state)
            text = json.dumps(record, indent=2, sort_keys=True)
            write_files(self.folder, {f"{name}.json": text.encode()})
        except OSError as error:
            raise RunError(
                "The state must be written from time to time; earlier checkpoints are intact, "
                f"--resume goes on from the last. Received: {error}, writing to {self.folder}"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        self._forget(f"{name}.json")

    def restore(self, model: keras.Model) -> Position | None:
        """Loads the newest checkpoint that is sound, with a warning if it is not the newest.

        Returns:
            Where it stands; None if there is no checkpoint.

        Raises:
            RunError: all are damaged, or the one to load is of another run. Nothing is changed
                then.
        """
        damages = []
        for path in reversed(self._all()):
            record, damage = _inspect(path)
            if damage:
                damages.append(damage)
                continue
            self._check_identity(path, record)
            for text in damages:
                print(f"warning: going on from {path.name}: {text}", file=sys.stderr, flush=True)
            model.load_weights(_state_of(path))
            return Position(record["epoch"], record["step"])
        if damages:
            raise RunError(
                "At least one checkpoint must hold exactly what was written. "
                f"Received: {self.folder}, in which " + "; ".join(damages)
            )
        return None

    def newest(self) -> Path | None:
        """The JSON file of the newest complete checkpoint."""
        names = self._all()
        return names[-1] if names else None

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("epoch_*.json"))

    def _check_identity(self, path: Path, record: dict[str, Any]) -> None:
        theirs = record.get("identity", {})
        keys = sorted((set(theirs) | set(self.identity)) - self.free)
        different = [k for k in keys if theirs.get(k) != self.identity.get(k)]
        if different:
            values = ", ".join(f"{k}: {theirs.get(k)} -> {self.identity.get(k)}" for k in different)
            raise RunError(
                "A run must be resumed with the settings it was started with. "
                f"Received: {path}, {values}"
            )

    def _forget(self, saved: str) -> None:
        """Deletes what is not among the newest up to `saved`, and what a killed save left."""
        paths = self._all()
        kept = [path.stem for path in paths if path.name <= saved][-KEEP:]
        for path in paths:
            if path.stem not in kept:
                path.unlink()
        for path in [*self.folder.glob("*.keras"), *self.folder.glob(".*.tmp")]:
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def _state_of(path: Path) -> Path:
    return path.with_suffix(".keras")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inspect(path: Path) -> tuple[dict[str, Any], str]:
    """A checkpoint's record, and what is wrong with it or its state: empty if nothing is."""
    state = _state_of(path)
    try:
        record = json.loads(path.read_text())
        missing = {"epoch", "step", "identity", "sha256"} - set(record)
        if missing or not isinstance(record["identity"], dict):
            return {}, f"{path.name} lacks {sorted(missing)}"
        if not state.is_file() or _digest(state) != record["sha256"]:
            return {}, f"{state.name} is damaged: its SHA-256 is not that in {path.name}"
    except (ValueError, TypeError) as error:
        return {}, f"{path.name} is damaged: {error}"
    return record, ""
