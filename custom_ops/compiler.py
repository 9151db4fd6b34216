"""The C++ compiler: its flags, the kernels it compiles, and errors in words."""

import concurrent.futures
import contextlib
import os
import pathlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent
KERNELS = ROOT / "kernels" / "cpu"

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


def kernel_sources() -> list[tuple[pathlib.Path, list[str]]]:
    """Sources with their own flags. The target is the compiler's, which may be a cross compiler."""
    x86 = run([*command(), "-dumpmachine"]).startswith("x86_64")
    skipped = TEST_SOURCES if x86 else (*TEST_SOURCES, *INSTRUCTION_SETS)
    define = ["-DPKKD_X86"] if x86 else []
    return [
        (source, [*define, *INSTRUCTION_SETS.get(source.name, [])])
        for source in sorted(KERNELS.glob("*.cc"))
        if source.name not in skipped
    ]


def command() -> list[str]:
    """What the environment variable `CXX` names, with its own flags; `g++` where it is empty."""
    given = os.environ.get("CXX", "")
    try:
        return shlex.split(given) or ["g++"]
    except ValueError as error:
        raise BuildError(
            f"CXX must be a command as a shell reads it. Received: CXX={given}, {error}"
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


def compile_and_link(
    sources: Iterable[tuple[pathlib.Path, list[str]]],
    flags: list[str],
    link_flags: list[str],
    output: str | os.PathLike,
    quiet: bool,
) -> pathlib.Path:
    """Makes one library or program of sources, each with flags of its own beside `flags`.

    Returns:
        Path of `output`, which is there whole or as it was before.

    Raises:
        BuildError: there is no compiler, it fails, or the output cannot be written.
    """
    output = pathlib.Path(output)
    with folder_beside(output) as folder:

        def compile_one(source: pathlib.Path, own_flags: list[str]) -> str:
            target = f"{folder}/{source.parent.name}-{source.stem}.o"
            if not quiet:
                print(f"compiling {source.relative_to(ROOT.parent)}", flush=True)
            run([*command(), *FLAGS, *flags, *own_flags, "-c", str(source), "-o", target])
            return target

        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            objects = list(pool.map(compile_one, *zip(*sources)))
        linked = folder / output.name
        run([*command(), *objects, *link_flags, "-o", str(linked)])
        os.replace(linked, output)  # a process that has the old library open keeps it
    if not quiet:
        print(f"built {output}")
    return output


def run(command: list[str]) -> str:
    """What a command of the build prints; raises `BuildError` where it fails."""
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
