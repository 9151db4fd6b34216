"""Kills a run again and again, and sees that it ends where the run left alone ends.

    python -m experiments.soak --output=DIR

Trains digits once undisturbed, and once killed by SIGKILL `--cycles` times at random moments (while
it starts, trains, or saves), each time started again with the same command (`--requeue`). Ends with
an error unless both runs' networks are the same bit for bit.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from absl import flags

import pkkd_tf  # noqa: F401  registers the layers of the networks that are compared
from experiments import errors
from experiments.errors import RunError
from experiments.folders import check_writable

# Small, but with both optimizers, a cosine that must go on, and a checkpoint every epoch.
TRAINING = ["--method=kd", "--batch_size=16", "--limit_train=64", "--monitor_every=0"]
TRAINING += ["--checkpoint_seconds=0"]
PHASES = {"start": 1, "train": 3, "save": 4}  # how often each is hit
PATIENCE_SECONDS = 600
POLL_SECONDS = 0.0005


def main() -> None:
    """Runs the program with its flags."""
    values = flags.FLAGS
    if values.output is None:
        raise RunError("--output must name a new folder. Received: output=None")
    folder, draw = Path(values.output), random.Random(values.seed)
    check_writable(folder)
    started = time.monotonic()
    _finish(folder / "whole", values.epochs)
    hits = {phase: 0 for phase in PHASES}
    for number in range(values.cycles):
        phase = draw.choices(list(PHASES), list(PHASES.values()))[0]
        hits[phase] += kill_once(folder / "killed", values.epochs, phase, draw)
        print(f"{number + 1}: {phase}, {newest(folder / 'killed') or 'no checkpoint'}", flush=True)
    _finish(folder / "killed", values.epochs)
    compare(folder / "killed", folder / "whole")
    minutes = (time.monotonic() - started) / 60
    print(f"{values.cycles} kills {hits}: the same weights bit for bit, {minutes:.0f} min")


def kill_once(folder: Path, epochs: int, phase: str, draw: random.Random) -> bool:
    """Starts or goes on with the run in `folder` and kills it in `phase`.

    Returns:
        Whether it was killed; False where it had come to its end before.
    """
    process = _start(folder, epochs)
    before = newest(folder)
    if phase == "start":
        time.sleep(draw.uniform(0, 20))
    else:
        _wait(process, lambda: newest(folder) != before)
    if phase == "train":
        time.sleep(draw.uniform(0, 2))
    if phase == "save":
        _wait(process, lambda: any((folder / "checkpoints").glob("partial_*")))
        time.sleep(draw.uniform(0, 0.1))
    process.kill()
    return process.wait() < 0


def newest(folder: Path) -> str:
    """The name of the newest checkpoint; empty if there is none."""
    names = sorted(path.stem for path in (folder / "checkpoints").glob("epoch_*.json"))
    return names[-1] if names else ""


def compare(folder: Path, expected: Path) -> None:
    """Raises RunError unless both runs left the same networks."""
    for name in ("student", "teacher"):
        ours, theirs = (keras.models.load_model(f / f"{name}.keras") for f in (folder, expected))
        pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
        different = sum(not np.array_equal(a, b) for a, b in pairs)
        if different:
            raise RunError(
                "A run that was killed must end as the run left alone. "
                f"Received: {different} weights of the {name} differ, in {folder}"
            )


def _start(folder: Path, epochs: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.digits", "--requeue", "--nocompare_plain"]
    command += [f"--output={folder}", f"--epochs={epochs}", "--verbose=0", *TRAINING]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(_errors(folder), "w") as file:  # a pipe that nobody reads would stop the run
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)


def _finish(folder: Path, epochs: int) -> None:
    if _start(folder, epochs).wait():
        text = _errors(folder).read_text(errors="replace")
        raise RunError(f"A run must end without an error. Received: {text[-2000:]}")


def _errors(folder: Path) -> Path:
    """What a run prints when it fails."""
    return folder.with_name(f"{folder.name}.errors")


def _wait(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and not condition():
        if time.monotonic() > deadline:
            process.kill()
            raise RunError(f"A run must go on. Received: nothing for {PATIENCE_SECONDS} s")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "New folder for both runs.")
    flags.DEFINE_integer("cycles", 30, "Kills.", lower_bound=1)
    flags.DEFINE_integer("epochs", 100, "Of the run that is killed.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    errors.run(main)
