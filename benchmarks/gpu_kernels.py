"""Speed and correctness of the GPU kernels on every adder layer of ResNet-20 and ResNet-50.

    python -m custom_ops.build_cuda && python -m benchmarks.gpu_kernels
    python -m benchmarks.gpu_kernels --network ResNet-20 --every_tile

Needs a GPU, nvcc and NumPy; no TensorFlow. Forward pass and input gradient in float32, forward pass
in float16. A time is the median of single calls between CUDA events, after a few to warm up; before
each, other memory is written, so that nothing is left in the cache. Tera-op/s counts one |x - f| as
one operation, the input gradient's terms too; "of the limit" is the share of what an H100 reached:
an inner loop of registers alone 14.07 (float32) and 23.1 Tera-op/s (float16), a prototype of the
input gradient 9.9.

Of each result, 64 elements are compared with the formula in float64, and all with those of
another call, bit for bit. `gpu_kernels.json` in the output folder has every row as soon as it is
measured. With `--every_tile`, the time of each tile stands beside the chosen one's: to tune
`ChooseTile` in kernels/cuda/tiles.cuh.

Not yet run on a GPU.
"""

import argparse
import ctypes
import json
import math
import os
import pathlib
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import gpu_library, gpu_reference
from benchmarks.gpu_layers import BATCHES, adder_shape, layers
from benchmarks.shapes import Layer

LIBRARY = pathlib.Path(__file__).parents[1] / "custom_ops" / "kernels" / "_pkkd_cuda.so"
LIMITS = {  # Tera-op/s
    ("forward", "float32"): 14.07,
    ("input gradient", "float32"): 9.9,
    ("forward", "float16"): 23.1,
}
TOLERANCES = {"float32": 1e-5, "float16": 4e-3}  # of the largest result
FLUSH_BYTES = 256 * 2**20
WARM_UP = 3
HEAD = (
    "| layer | pass | ms | Tera-op/s | of the limit | error | right | tiles |\n"
    "|---|---|---|---|---|---|---|---|"
)


def measure(
    gpu: gpu_library.Gpu, layer: Layer, repeats: int, every_tile: bool
) -> Iterator[dict[str, Any]]:
    """A row for each pass and type."""
    rng, shape = np.random.default_rng(0), adder_shape(layer)
    for (name, dtype), limit in LIMITS.items():
        call = gpu_library.Call(gpu, name, shape, dtype, rng)
        correctness = _check(call, gpu_reference.sample(name, shape, *call.arrays, rng), dtype)
        seconds = _median(gpu, call, -1, repeats)
        rate = layer.operations / seconds / 1e12
        row = {
            "network": layer.network,
            "layer": layer.name,
            "batch": layer.batch,
            "pass": name,
            "type": dtype,
            "milliseconds": seconds * 1e3,
            "tera_operations_per_second": rate,
            "share_of_limit": rate / limit,
        }
        tiles = range(gpu.tiles()) if every_tile else ()
        times = [_median(gpu, call, tile, repeats) * 1e3 for tile in tiles]
        call.free()
        yield row | correctness | ({"tiles": times} if every_tile else {})


def _check(
    call: gpu_library.Call, expected: dict[tuple[int, ...], float], dtype: str
) -> dict[str, Any]:
    """Two results, against a sample of the right one and against each other."""
    result, again = call.result(), call.result()
    error = _error(result, expected)
    return {
        "error": error,
        "correct": error <= TOLERANCES[dtype],
        "same_bits": result.tobytes() == again.tobytes(),
    }


def _error(result: np.ndarray, expected: dict[tuple[int, ...], float]) -> float:
    """Largest difference, in units of the largest expected value; NaN counts as infinite."""
    differences = [abs(float(result[i]) - value) for i, value in expected.items()]
    worst = max(differences) if all(map(math.isfinite, differences)) else math.inf
    return worst / max(map(abs, expected.values()))


def _median(gpu: gpu_library.Gpu, call: gpu_library.Call, tile: int, repeats: int) -> float:
    flush = gpu.allocate(FLUSH_BYTES)
    events = gpu.event_pairs(WARM_UP + repeats)
    for before, after in events:
        gpu.check(gpu.functions.pkkd_cuda_fill(flush, 0, ctypes.c_int64(FLUSH_BYTES)))
        gpu.record(before)
        call.launch(tile)
        gpu.record(after)
    times = [gpu.seconds_between(*pair) for pair in events]
    gpu.free(flush)
    return statistics.median(times[WARM_UP:])


def line(row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    good = "yes" if row["correct"] and row["same_bits"] else "NO"
    tiles = " ".join(f"{t:.3f}" for t in row.get("tiles", []))
    return (
        f"| {row['network']}, {row['batch']}: {row['layer']} | {row['pass']} {row['type']} | "
        f"{row['milliseconds']:.3f} | {row['tera_operations_per_second']:.2f} | "
        f"{row['share_of_limit']:.0%} | {row['error']:.1e} | {good} | {tiles} |"
    )


def save(output: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes `gpu_kernels.json`, whole at any time: a run that is killed leaves its rows."""
    unfinished = output / "gpu_kernels.json.part"
    unfinished.write_text(json.dumps(record, indent=1))
    os.replace(unfinished, output / "gpu_kernels.json")


def main(arguments: list[str]) -> None:
    """Command line."""
    options = _options(arguments)
    try:
        gpu = gpu_library.Gpu(options.path)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"{gpu.name()}\n\n{HEAD}")
    rows = _measure_all(gpu, options)
    if not all(row["correct"] and row["same_bits"] for row in rows):
        sys.exit("A result is wrong or differs from run to run: see the table.")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=sorted(BATCHES), help="only this one")
    parser.add_argument("--batch", type=int, help="instead of 256 and 64")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--every_tile", action="store_true", help="time every tile")
    parser.add_argument("--library", dest="path", type=pathlib.Path, default=LIBRARY)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("results/gpu"))
    options = parser.parse_args(arguments)
    if not options.path.exists():
        sys.exit(f"Build it with `python -m custom_ops.build_cuda`. Received: {options.path}")
    return options


def _measure_all(gpu: gpu_library.Gpu, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Prints and saves each row as soon as it is there."""
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for layer in layers(options.batch):
        if options.network in (None, layer.network):
            for row in measure(gpu, layer, options.repeats, options.every_tile):
                print(line(row), flush=True)
                rows.append(row)
                save(options.output, {"device": gpu.name(), "rows": rows})
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
