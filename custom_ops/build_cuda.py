"""Compiles the GPU kernels: `python -m custom_ops.build_cuda`.

    python -m custom_ops.build_cuda               custom_ops/kernels/_pkkd_cuda.so, C functions
    python -m custom_ops.build_cuda --emulate     every kernel on the processor: needs no GPU
    python -m custom_ops.build_cuda --grid_test   every kernel on the GPU
    python -m custom_ops.build_cuda --check       a part of it under NVIDIA's memcheck and racecheck

`--every=41` tests each 41st shape. `--grid_test --output=FILE` only builds the test, for another
machine: `FILE 41`, `compute-sanitizer --tool memcheck FILE 41`.

With the library, on a GPU, the tests of accuracy, NaN, infinity and overflow; they need NumPy,
pytest and ml_dtypes, not TensorFlow:

    export PKKD_TF_CUDA_LIBRARY=custom_ops/kernels/_pkkd_cuda.so
    python -m pytest --noconftest -o addopts= tests/custom_ops/test_cuda{,_obstacle}.py

`python -m custom_ops.build` takes the same kernels into the TensorFlow operations wherever it finds
nvcc: the environment variable `NVCC`, then `CUDA_HOME`, then the path; `NVCC=` (empty) leaves them
out. Code is made for the compute capabilities of `PKKD_TF_CUDA_ARCHITECTURES` (default
`75;80;86;89;90`) and, as PTX, for later ones. Compiled kernels are kept, as `kernels/cuda/*.o`,
until a source or a flag changes.

The kernels are compiled and emulated, and not yet run on a GPU.
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import sys
import warnings

from custom_ops import compiler, nvcc

KERNELS = compiler.ROOT / "kernels" / "cuda"
ADDERS = ("adder_bfloat16.cu", "adder_cuda.cu", "adder_float16.cu", "adder_float32.cu")
SOURCES = (*ADDERS, "obstacle.cu")
C_API = (*SOURCES, "device_c_api.cu")
CPU_HEADERS = ("adder.h", "grid_test.h", "layout.h", "number_types.h", "reference.h", "tiles.h")
LIBRARY = compiler.ROOT / "kernels" / "_pkkd_cuda.so"
EMULATED = ["-x", "c++", "-DPKKD_CUDA_EMULATION", "-O1"]


def objects(quiet: bool = False, sources: tuple[str, ...] = SOURCES) -> list[str]:
    """Compiles the kernels, or takes what is compiled already.

    Args:
        quiet: if True, prints nothing.
        sources: names in `kernels/cuda`.

    Returns:
        Paths of the object files.

    Raises:
        BuildError: there is no nvcc, or it fails.
    """
    flags = nvcc.flags()
    state = _fingerprint([nvcc.state(), *flags])

    def compile_one(source: str) -> str:
        name = pathlib.Path(source).stem
        target = KERNELS / f"{name}-{state}.o"
        if target.exists():
            return str(target)
        if not quiet:
            print(f"compiling custom_ops/kernels/cuda/{source} with nvcc", flush=True)
        with compiler.folder_beside(target) as folder:
            unfinished = folder / target.name
            nvcc.run([*flags, "-c", str(KERNELS / source), "-o", str(unfinished)])
            for old in KERNELS.glob(f"{name}-*.o"):
                old.unlink(missing_ok=True)
            os.replace(unfinished, target)
        return str(target)

    with concurrent.futures.ThreadPoolExecutor(compiler.JOBS) as pool:
        return list(pool.map(compile_one, sources))


def objects_for_tensorflow(quiet: bool = False) -> list[str]:
    """As `objects`, and none with one warning where nvcc fails; none without nvcc."""
    if nvcc.path() is None:
        return []
    try:
        return [*objects(quiet), *nvcc.link_flags()]
    except compiler.BuildError as error:
        warnings.warn(
            f"The operations are built for the processor only, because the GPU kernels could not "
            f"be compiled; `NVCC=` (empty) leaves them out. {error}",
            stacklevel=2,
        )
        return []


def build_kernels(
    output: str | os.PathLike | None = None, quiet: bool = False, emulate: bool = False
) -> pathlib.Path:
    """Compiles the kernels alone, as C functions: kernels/cuda/adder_cuda.h and device_c_api.cu.

    Args:
        output: where the library goes; default `custom_ops/kernels/_pkkd_cuda.so`.
        quiet: if True, prints nothing.
        emulate: if True, for the processor, with kernels/cuda/emulation.h.

    Returns:
        Path of the library.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    output = pathlib.Path(output or LIBRARY)
    if emulate:
        sources = [(KERNELS / name, EMULATED) for name in C_API]
        return compiler.compile_and_link(sources, [], ["-shared"], output, quiet)
    return link(["-shared", *objects(quiet, C_API)], output)


def link(parts: list[str], output: pathlib.Path) -> pathlib.Path:
    """Links objects with the CUDA runtime; a process that has the old file open keeps it."""
    with compiler.folder_beside(output) as folder:
        linked = folder / output.name
        compiler.run([*compiler.command(), *parts, *nvcc.link_flags(), "-o", str(linked)])
        os.replace(linked, output)
    return output


def _fingerprint(flags: list[str]) -> str:
    digest = hashlib.sha256("\n".join(flags).encode())
    sources = [s for s in KERNELS.iterdir() if s.suffix in (".cu", ".cuh", ".h")]
    headers = [compiler.KERNELS / name for name in CPU_HEADERS]
    for source in sorted([*sources, *headers]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _execute(arguments: argparse.Namespace) -> None:
    from custom_ops import cuda_grid_test  # which imports this module

    quiet, every, output = arguments.quiet, arguments.every, arguments.output
    if arguments.emulate:
        cuda_grid_test.run_emulated(1 if every is None else every, quiet=quiet)
    elif arguments.grid_test and output:
        print(f"built {cuda_grid_test.build_program(output, quiet)}; on a GPU: {output} [n]")
    elif arguments.grid_test or arguments.check:
        cuda_grid_test.run_on_gpu(arguments.check, every, quiet)
    else:
        print(f"built {build_kernels(output, quiet)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="where the library, or with --grid_test the program, goes")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--emulate", action="store_true", help="test on the processor")
    parser.add_argument("--every", type=int, help="... each n-th shape of the grid")
    parser.add_argument("--grid_test", action="store_true", help="test on the GPU")
    parser.add_argument("--check", action="store_true", help="... under compute-sanitizer")
    arguments = parser.parse_args()
    if arguments.output and (arguments.emulate or arguments.check):
        parser.error(f"a test that is run keeps no file. Received: --output={arguments.output}")
    try:
        _execute(arguments)
    except compiler.BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
