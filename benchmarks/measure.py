"""Time, memory, and what was measured on."""

import datetime
import multiprocessing
import pathlib
import platform
import re
import time
from collections.abc import Callable

import tensorflow as tf

from experiments.report.machine import cpu_model
from pkkd_tf.ops import compiled

TURNS = 9
SECONDS = 2.0  # of turns of one implementation, after which it gets no other


def fastest(
    implementations: dict[str, Callable[[], tf.Tensor]], clock: Callable[[], float]
) -> dict:
    """Seconds of the fastest turn of each implementation, on `clock`; they take turns."""
    for call in implementations.values():
        call().numpy()  # traces, and fills the caches
    seconds = {name: [] for name in implementations}
    begin = clock()
    for turn in range(TURNS):
        for name, call in implementations.items():
            if turn > 0 and turn * seconds[name][0] > SECONDS:
                continue  # one that takes seconds gets fewer turns
            start = clock()
            call().numpy()
            seconds[name].append(clock() - start)
        if clock() - begin > len(implementations) * SECONDS:
            break
    return {
        "seconds": {name: min(values) for name, values in seconds.items()},
        "turns": {name: len(values) for name, values in seconds.items()},
    }


def peak(call: Callable[..., tf.Tensor], small: list[list[int]], shapes: list[list[int]]) -> int:
    """Bytes of the resident peak of `call` above its arguments, result included (Linux).

    TensorFlow keeps the memory it once had, so each measurement takes a process of its own: a fork
    of this one, which must not have run an operation. `small`: shapes for a first call, that loads
    what is loaded on first use.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_peak, (call, small, shapes))


def _peak(call: Callable[..., tf.Tensor], small: list[list[int]], shapes: list[list[int]]) -> int:
    call(*map(tf.ones, small))
    arguments = [tf.ones(shape) for shape in shapes]
    return growth(lambda: call(*arguments))


def growth(call: Callable[[], tf.Tensor]) -> int:
    """Bytes of the resident peak during `call` above what was resident before it (Linux)."""
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    call()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status).group(1))


def clock_for(threads: int) -> Callable[[], float]:
    """Processor time for one thread, which other programs do not lengthen; else the wall's."""
    return time.process_time if threads == 1 else time.perf_counter


def machine(threads: int) -> dict:
    """Device, threads, versions and date of a measurement."""
    return {
        "device": cpu_model() or platform.machine(),
        "threads": threads,
        "clock": "processor time" if threads == 1 else "wall time",
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def gpu() -> dict:
    """What differs in `machine` where TensorFlow computes on a GPU; empty without one."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return {}
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    versions = tf.sysconfig.get_build_info()
    kernels = "no CUDA" if compiled.gpu_obstacle() else "CUDA"
    return {
        "device": f"{name}, CUDA {versions.get('cuda_version', 'unknown')}",
        "host": machine(1)["device"],
        "kernels": kernels,
    }
