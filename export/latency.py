"""Times `.tflite` models in turns, by the interpreter installed here."""

import contextlib
import dataclasses
import gc
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from export.program import ExportError
from export.tflite.interpreters import Network


@dataclasses.dataclass
class Timing:
    """What one model took, in microseconds, and what it left in memory, in megabytes.

    Attributes:
        graph: the file.
        init: reading the model, the delegate, and all memory.
        first: the first inference.
        warmup: average of the warm-up runs, the first one among them.
        runs: every run that counts.
        memory: growth of the process' peak from before the model to after its first inference.
    """

    graph: str
    init: float
    first: float
    warmup: float
    runs: np.ndarray
    memory: float

    def lines(self) -> list[str]:
        """The figures, as the benchmark tool writes them; p95 is the 95th percentile."""
        runs = self.runs
        statistics = {
            "count": len(runs),
            "first": f"{runs[0]:.0f}",
            "curr": f"{runs[-1]:.0f}",
            "min": f"{runs.min():.0f}",
            "max": f"{runs.max():.0f}",
            "avg": f"{runs.mean():.1f}",
            "std": f"{runs.std():.0f}",
            "median": f"{np.median(runs):.0f}",
            "p95": f"{np.percentile(runs, 95):.0f}",
        }
        return [
            f"Graph: [{self.graph}]",
            " ".join(f"{name}={value}" for name, value in statistics.items()),
            f"Inference timings in us: Init: {self.init:.0f}, First inference: {self.first:.0f}, "
            f"Warmup (avg): {self.warmup:.1f}, Inference (avg): {runs.mean():.1f}",
            f"Peak memory footprint growth (MB): {self.memory:.2f}",
        ]


def measure(
    graphs: Sequence[str],
    delegate: str | None = None,
    num_threads: int = 1,
    num_runs: int = 50,
    warmup_runs: int = 5,
    options: dict[str, str] | None = None,
    input_shape: Sequence[int] | None = None,
) -> list[Timing]:
    """Times models in turns.

    Args:
        graphs: `.tflite` files.
        delegate: library of an external delegate, or None.
        num_threads: threads of each interpreter.
        num_runs: runs that count, of each model.
        warmup_runs: runs before them; the first is always made.
        options: of the delegate.
        input_shape: of the input, where the model leaves it open; None: as the model says.

    Returns:
        A `Timing` for each graph, in their order.

    Raises:
        ExportError: a file or the delegate cannot be read.

    Example:
        >>> [t.runs.min() for t in measure(["r20.tflite", "cnn.tflite"])]
        [16123.5, 903.1]
    """
    prepared = [
        _prepare(graph, delegate, num_threads, warmup_runs, options, input_shape)
        for graph in graphs
    ]
    runs = np.empty((num_runs, len(prepared)))
    with _collected():
        for network, _ in prepared:
            network.invoke()  # collecting emptied the caches
        for row in runs:
            row[:] = [_warm_time(network, len(prepared)) for network, _ in prepared]
    for column, (_, timing) in enumerate(prepared):
        timing.runs = runs[:, column]
    return [timing for _, timing in prepared]


def ratios(timing: Timing, other: Timing) -> tuple[float, float]:
    """How many times as long as another one a model takes: by the medians and by the minima."""
    median, least = (float(f(timing.runs) / f(other.runs)) for f in (np.median, np.min))
    return median, least


@contextlib.contextmanager
def _collected() -> Iterator[None]:
    """Garbage is collected before, not in between."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare(
    graph: str,
    delegate: str | None,
    num_threads: int,
    warmup_runs: int,
    options: dict[str, str] | None,
    input_shape: Sequence[int] | None,
) -> tuple[Network, Timing]:
    if not Path(graph).is_file():
        raise ExportError(f"--graph must be an existing .tflite file. Received: graph='{graph}'")
    before, start = _peak_memory(), time.perf_counter()
    network = Network(Path(graph).read_bytes(), delegate, num_threads, options)
    network.set_input(random_input(network, input_shape))
    init = (time.perf_counter() - start) * 1e6
    first = _time(network)
    memory = _peak_memory() - before
    warmup = np.mean([first, *(_time(network) for _ in range(warmup_runs - 1))])
    return network, Timing(graph, init, first, float(warmup), np.empty(0), memory)


def random_input(network: Network, shape: Sequence[int] | None) -> np.ndarray:
    """Random numbers of the network's own shape or another one; of int8 inputs all of int8."""
    shape = tuple(network.input["shape"] if shape is None else shape)
    random, kind = np.random.default_rng(0), np.dtype(network.input["dtype"])
    if kind.kind == "f":
        return random.standard_normal(shape).astype(kind)
    low, high = (-128, 128) if kind == np.int8 else (0, 100)
    return random.integers(low, high, shape).astype(kind)


def _time(network: Network) -> float:
    start = time.perf_counter_ns()
    network.invoke()
    return (time.perf_counter_ns() - start) / 1e3


def _warm_time(network: Network, models: int) -> float:
    """Of a run after another one of the same model, as if it ran alone: in its own caches."""
    if models > 1:
        network.invoke()
    return _time(network)


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
