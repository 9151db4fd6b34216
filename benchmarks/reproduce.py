"""The runs of the published table and of the open choices, one after the other, until all are done.

    python -m benchmarks.reproduce --data_dir=DIR --output=runs/reproduce --rows=published --seeds=3

`--rows` takes `published`, `choices` and names such as `resnet20/pkkd` or `resnet20/pkkd/beta_0.01`
(`benchmarks/rows.py`). Given again, the command goes on where it was cut off, from the last
checkpoint of each run; after `--minutes`, or on SIGTERM, all runs save and it ends with 143. Every
finished run is a row of RESULTS/runs.csv and a file of RESULTS/curves; `python -m
benchmarks.results_table` makes the tables and pictures. What is a row there is not trained again,
but for a teacher that is needed; another `--results` repeats it.

`--parallel=N` runs N at once, on one GPU, or each on one of several. The first line says which
device computes, by which operations; with `--require_gpu` nothing is trained but on a GPU, by
kernels compiled for it. `--flag=--NAME=VALUE` gives every run a further flag of
`experiments.cifar`; where it changes results, the runs are others, with names of their own.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import computing, rows
from benchmarks.results_table import read, record
from benchmarks.trainings import Run, check_flags, flag_name
from experiments import errors
from experiments.errors import RunError, Terminated
from experiments.folders import check_writable

POLL_SECONDS = 0.2


class Queue:
    """Runs several trainings, so many at once, until they are done or it is told to stop.

    Args:
        runs: the trainings, in their order.
        options: values of this program's flags.
    """

    def __init__(self, runs: list[Run], options: dict[str, Any]):
        self.options = options
        entered = {row["run"] for row in read(Path(options["results"]))}
        left = [
            run for run in runs if not self._recorded(run) and not self._only_entered(run, entered)
        ]
        taught_by = {run.teacher for run in left}
        missing = [run for run in runs if run in taught_by and not self._done(run)]
        self.waiting = [run for run in runs if run in left or run in missing]
        self.active: dict[Run, subprocess.Popen] = {}
        self.gpus: list[str] = []  # what CUDA calls them; several: each run has one of them
        self.gpu_of: dict[Run, str] = {}
        self.failed: list[str] = []
        self.stopping = threading.Event()

    def work(self) -> None:
        """Trains until nothing waits; raises `Terminated` if told to stop before."""
        minutes = self.options["minutes"]
        deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        while self.waiting or self.active:
            if time.monotonic() > deadline or self.stopping.is_set():
                self._stop()
            while len(self.active) < self.options["parallel"] and (run := self._next()):
                self._start(run)
            for run in [run for run, process in self.active.items() if process.poll() is not None]:
                self._finish(run, self.active.pop(run).returncode)
            time.sleep(POLL_SECONDS)
        if self.failed:
            raise RunError(f"Every run must end well. Received: {'; '.join(self.failed)}")

    def _next(self) -> Run | None:
        """Takes the first that can start; None where all that wait need a run that is going on."""
        for run in self.waiting:
            if run.teacher is None or self._done(run.teacher):
                self.waiting.remove(run)
                return run
        return None

    def _done(self, run: Run) -> bool:
        return (run.folder(self.options) / "report.json").is_file()

    def _only_entered(self, run: Run, entered: set[str]) -> bool:
        """Whether a run is in the table and its folder is gone."""
        return run.name in entered and not run.folder(self.options).exists()

    def _recorded(self, run: Run) -> bool:
        """Enters a run into the table if it is done; returns whether it is."""
        done = self._done(run)
        if done:
            record(run, run.folder(self.options), Path(self.options["results"]))
        return done

    def _start(self, run: Run) -> None:
        folder = run.folder(self.options)
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"{time.strftime('%H:%M:%S')} {run.name}", flush=True)
        with open(self._log(run), "a") as log:
            self.active[run] = subprocess.Popen(
                run.command(self.options),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._share(run)},
            )

    def _log(self, run: Run) -> Path:
        """Beside the run's folder; names have dots in them."""
        folder = run.folder(self.options)
        return folder.with_name(f"{folder.name}.log")

    def _share(self, run: Run) -> dict[str, str]:
        """The environment's part that lets runs at once get along on the GPUs."""
        if self.options["parallel"] == 1:
            return {}
        share = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if len(self.gpus) > 1:
            used = [self.gpu_of[other] for other in self.active]
            self.gpu_of[run] = min(self.gpus, key=used.count)
            share["CUDA_VISIBLE_DEVICES"] = self.gpu_of[run]
        return share

    def _finish(self, run: Run, code: int) -> None:
        if self._recorded(run):
            return
        last = (self._log(run).read_text().strip().splitlines() or [""])[-1]
        self.failed.append(f"{run.name} ended with {code}: {last}")
        for pupil in [other for other in self.waiting if other.teacher == run]:
            self.waiting.remove(pupil)
            self.failed.append(f"{pupil.name} has no teacher")

    def _stop(self) -> None:
        for process in self.active.values():
            process.send_signal(signal.SIGTERM)
        for process in self.active.values():
            process.wait()
        left = len(self.waiting) + sum(not self._recorded(run) for run in self.active)
        if left:
            raise Terminated(f"{left} runs are left; the same command goes on with them.")
        self.active.clear()


def main() -> None:
    """Runs what the flags ask for."""
    options = {name: flags.FLAGS[name].value for name in OPTIONS}
    options["results"] = options["results"] or f"results/{options['dataset']}"
    for name in ("data_dir", "output"):
        if not options[name]:
            raise RunError(f"--{name} must name a folder. Received: {name}={options[name]}")
    for name in ("output", "results"):
        check_writable(Path(options[name]), f"--{name}")
    chosen = rows.chosen(options["dataset"], options["rows"])
    same = options["epochs"], options["batch_size"], tuple(options["flag"])
    runs = [Run(row, seed, *same) for seed in range(options["seeds"]) for row in chosen]
    check_flags(options["flag"], runs)
    queue = Queue(runs, options)
    if queue.waiting:
        found = computing.ask(_under_xla(options["flag"]))
        print(found, flush=True)
        queue.gpus = found.names()
        if options["require_gpu"]:
            found.check_gpu()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: queue.stopping.set())
    queue.work()
    print(f"{len(runs)} runs are in {options['results']}")


def _under_xla(flag: list[str]) -> bool:
    """Whether the last of the flags that say so has XLA compile the training step."""
    said = [word.lstrip("-").lower() for word in flag if flag_name(word) == "jit_compile"]
    yes = ("jit_compile", "jit_compile=true", "jit_compile=t", "jit_compile=1")
    return bool(said) and said[-1] in yes


OPTIONS = ("data_dir", "output", "results", "dataset", "rows", "seeds", "epochs", "batch_size")
OPTIONS += ("parallel", "minutes", "require_gpu", "flag")


def define() -> None:
    """Defines this program's flags."""
    flags.DEFINE_string("data_dir", None, "Folder of the data set.")
    flags.DEFINE_string("output", None, "Folder for the runs.")
    flags.DEFINE_string("results", None, "Folder for table and curves; None: results/DATASET.")
    flags.DEFINE_enum("dataset", "cifar10", ("cifar10", "cifar100"), "Which of the two.")
    flags.DEFINE_list("rows", ["published"], "published, choices, or names of rows.")
    flags.DEFINE_integer("seeds", 3, "Of each row: 0, 1, ...", lower_bound=1)
    flags.DEFINE_integer("epochs", 400, "Of each run.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 256, "Of each run.", lower_bound=1)
    flags.DEFINE_integer("parallel", 1, "Runs at once.", lower_bound=1)
    flags.DEFINE_float("minutes", None, "Stop after them.", 0.0)
    flags.DEFINE_bool("require_gpu", False, "End unless a GPU computes, by compiled kernels.")
    flags.DEFINE_multi_string("flag", [], "A further flag of experiments.cifar, --NAME=VALUE.")


if __name__ == "__main__":
    define()
    errors.run(main)
