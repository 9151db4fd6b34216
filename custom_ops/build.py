"""Compiles the native code: `python -m custom_ops.build`.

One shared library, `custom_ops/tensorflow/_pkkd_ops.so`, from the kernels and the TensorFlow
shell, with the compiler of the environment variable `CXX` (C++17; `g++` where unset or empty) and
the headers of the installed TensorFlow. It works with that TensorFlow version only. About half a
minute, and a minute more the first time where nvcc is found: `custom_ops.build_cuda` says how.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent
KERNELS = ROOT / "kernels" / "cpu"
SHELL = ROOT / "tensorflow"
LIBRARY = SHELL / "_pkkd_ops.so"
KERNELS_LIBRARY = ROOT / "kernels" / "_pkkd_kernels.so"

FLAGS = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra", f"-I{ROOT.parent}"]
OPTIMIZED = ["-O3", "-DNDEBUG"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", *AVX2]
INSTRUCTION_SETS = {
    "tiles_avx2.cc": AVX2,
    "tiles_avx512.cc": AVX512,
    "int8_tiles_avx2.cc": AVX2,
    "int8_tiles_avx512.cc": AVX512,
}
GRID_TESTS = ("grid_test.cc", "grid_test.h", "int8_grid_test.cc", "int8_grid_test.h")
TEST_SOURCES = ("c_api.cc", *GRID_TESTS)  # left out of the libraries
JOBS = 2


class BuildError(RuntimeError):
    """The native code could not be compiled; the message says why."""


def build(output: str | os.PathLike | None = None, quiet: bool = False) -> pathlib.Path:
    """Compiles the TensorFlow operations.

    Args:
        output: where the library goes; default beside its sources, where `pkkd_tf` looks.
        quiet: if True, prints nothing.

    Returns:
        Path of the library.

    Raises:
        BuildError: there is no compiler or no TensorFlow, or the compiler fails.
    """
    compile_flags, link_flags = _tensorflow_flags()
    from custom_ops import build_cuda, nvcc  # which import this module

    gpu = build_cuda.objects_for_tensorflow(quiet)
    compile_flags += nvcc.compile_flags() if gpu else []
    shell = [(source, compile_flags) for source in sorted(SHELL.glob("*.cc"))]
    sources = [*shell, *_kernel_sources()]
    flags = ["-shared", *gpu, *link_flags]
    return _compile_and_link(sources, OPTIMIZED, flags, output or LIBRARY, quiet)


def build_kernels(output: str | os.PathLike | None = None, quiet: bool = False) -> pathlib.Path:
    """Compiles the kernels alone, as C functions (kernels/cpu/c_api.cc): no TensorFlow needed.

    Args, Returns, Raises: as `build`.
    """
    sources = [*_kernel_sources(), (KERNELS / "c_api.cc", [])]
    flags = ["-shared", "-pthread"]
    return _compile_and_link(sources, OPTIMIZED, flags, output or KERNELS_LIBRARY, quiet)


def run_grid_test(sanitize: str | None = None, quiet: bool = False) -> None:
    """Compiles and runs kernels/cpu/grid_test.cc: every kernel against the plain loops.

    Args:
        sanitize: for example `"address,undefined"` or `"thread"`; default none.
        quiet: if True, prints nothing unless the test fails.

    Raises:
        BuildError: it does not compile, or a kernel or a sanitizer complains.
    """
    flags = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"] if sanitize else []
    tests = [(KERNELS / name, []) for name in ("grid_test.cc", "int8_grid_test.cc")]
    sources = [*_kernel_sources(), *tests]
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "grid_test"
        _compile_and_link(sources, ["-O1", "-g", *flags], [*flags, "-pthread"], program, quiet)
        report = _run([str(program)])
    if not quiet:
        print(report, end="")


def _kernel_sources() -> list[tuple[pathlib.Path, list[str]]]:
    """Sources with their own flags. The target is the compiler's, which may be a cross compiler."""
    x86 = _run([*_compiler(), "-dumpmachine"]).startswith("x86_64")
    skipped = TEST_SOURCES if x86 else (*TEST_SOURCES, *INSTRUCTION_SETS)
    define = ["-DPKKD_X86"] if x86 else []
    return [
        (source, [*define, *INSTRUCTION_SETS.get(source.name, [])])
        for source in sorted(KERNELS.glob("*.cc"))
        if source.name not in skipped
    ]


def _tensorflow_flags() -> tuple[list[str], list[str]]:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise BuildError(
            "The operations are compiled against an installed TensorFlow. "
            f"Received: import tensorflow -> {error}"
        ) from error
    flags = [f.replace("-I", "-isystem", 1) for f in tf.sysconfig.get_compile_flags()]
    version = f'-DPKKD_TENSORFLOW_VERSION="{tf.__version__}"'
    return [*flags, version], tf.sysconfig.get_link_flags()


def _compiler() -> list[str]:
    command = os.environ.get("CXX", "")
    try:
        return shlex.split(command) or ["g++"]
    except ValueError as error:
        raise BuildError(
            f"CXX must be a command as a shell reads it. Received: CXX={command}, {error}"
        ) from error


@contextlib.contextmanager
def folder_beside(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder for unfinished files, from where one move brings the finished one to `output`."""
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:
            yield pathlib.Path(folder)
    except OSError as error:
        raise BuildError(
            "The output must be a file in a folder that exists and can be written to. "
            f"Received: output={output}, {error}"
        ) from error


def _compile_and_link(sources, flags, link_flags, output, quiet) -> pathlib.Path:
    output = pathlib.Path(output)
    with folder_beside(output) as folder:

        def compile_one(source: pathlib.Path, own_flags: list[str]) -> str:
            target = f"{folder}/{source.parent.name}-{source.stem}.o"
            if not quiet:
                print(f"compiling {source.relative_to(ROOT.parent)}", flush=True)
            _run([*_compiler(), *FLAGS, *flags, *own_flags, "-c", str(source), "-o", target])
            return target

        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            objects = list(pool.map(compile_one, *zip(*sources)))
        linked = folder / output.name
        _run([*_compiler(), *objects, *link_flags, "-o", str(linked)])
        os.replace(linked, output)  # a process that has the old library open keeps it
    if not quiet:
        print(f"built {output}")
    return output


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BuildError(
            "A C++17 compiler is needed to build the operations; without them pkkd_tf computes "
            f"in stock TensorFlow operations. Received: CXX={os.environ.get('CXX', 'g++')}, "
            f"{command[0]}: {error.strerror}"
        ) from error
    if done.returncode != 0:
        raise BuildError(
            f"A command of the build failed. Received: exit status {done.returncode} from "
            f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="where the library goes")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--kernels", action="store_true", help="the kernels without TensorFlow")
    parser.add_argument("--grid_test", action="store_true", help="run the C++ test of the kernels")
    parser.add_argument("--sanitize", help="run it with these, e.g. address,undefined or thread")
    arguments = parser.parse_args()
    try:
        if arguments.grid_test or arguments.sanitize:
            run_grid_test(arguments.sanitize, arguments.quiet)
        else:
            target = build_kernels if arguments.kernels else build
            target(arguments.output, arguments.quiet)
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
