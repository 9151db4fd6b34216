"""kernels/cuda/grid_test.cu, every GPU kernel against plain loops: built, run, and emulated.

The command line is that of `custom_ops.build_cuda`. The programs print as they go on.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

from custom_ops import build_cuda, compiler, nvcc

SOURCE = "grid_test.cu"
TOOLS = ("memcheck", "racecheck")
CHECKED = 41  # each how many-th shape the tools see: without the grid's factors 3 and 11
# The machine with the GPU may have another C++ library.
PORTABLE = ["-static-libstdc++", "-static-libgcc"]


def build_program(output: str | os.PathLike, quiet: bool = False) -> pathlib.Path:
    """Compiles the test for GPUs; no GPU is needed, and the program needs nothing but a GPU.

    Args:
        output: where the program goes; `output n` runs each n-th shape of the grid.
        quiet: if True, does not print what is compiled.

    Returns:
        Path of the program.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    objects = build_cuda.objects(quiet, (*build_cuda.SOURCES, SOURCE))
    with tempfile.TemporaryDirectory() as folder:
        source, reference = str(compiler.KERNELS / "reference.cc"), f"{folder}/reference.o"
        compiler.run([*compiler.command(), *compiler.FLAGS, "-O2", "-c", source, "-o", reference])
        return build_cuda.link([*objects, reference, *PORTABLE], pathlib.Path(output))


def run_on_gpu(check: bool = False, every: int | None = None, quiet: bool = False) -> str:
    """Builds the test and runs it on the GPU.

    Args:
        check: if True, under memcheck and then racecheck of compute-sanitizer, whatever the first
            finds (minutes).
        every: each how many-th shape of the grid to take; default all, or with `check` each 41st.
        quiet: if True, does not print what is compiled.

    Returns:
        What the program prints.

    Raises:
        BuildError: it does not compile, there is no GPU, or a kernel or a tool complains.
    """
    count = _checked((CHECKED if check else 1) if every is None else every)
    commands: list[list[str]] = [[]]
    if check:
        top = nvcc.toolkit() / "bin" / "compute-sanitizer"
        tool = shutil.which("compute-sanitizer") or str(top)
        commands = [[tool, "--error-exitcode", "1", "--tool", name] for name in TOOLS]
    with tempfile.TemporaryDirectory() as folder:
        program = str(build_program(f"{folder}/grid_test", quiet))
        return _follow([[*command, program, str(count)] for command in commands])


def run_emulated(every: int = 1, sanitize: str = "address,undefined", quiet: bool = False) -> str:
    """Runs the test on the processor under sanitizers; minutes with `every=1`.

    Args:
        every: each how many-th shape of the grid to take.
        sanitize: names for `-fsanitize`, or empty.
        quiet: if True, does not print what is compiled.

    Returns:
        What the program prints: at last the number of comparisons.

    Raises:
        BuildError: it does not compile, or a kernel or a sanitizer complains.
    """
    flags = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"] if sanitize else []
    names = (*build_cuda.SOURCES, SOURCE)
    sources = [(build_cuda.KERNELS / name, build_cuda.EMULATED) for name in names]
    sources.append((compiler.KERNELS / "reference.cc", ["-O1"]))
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "grid_test"
        compiler.compile_and_link(sources, flags, flags, program, quiet)
        return _follow([[str(program), str(_checked(every))]])


def _checked(every: int) -> int:
    if every < 1:
        raise compiler.BuildError(f"`every` must be positive. Received: every={every}")
    return every


def _follow(commands: list[list[str]]) -> str:
    """Runs all, prints their output as it comes, and complains in the end of those that failed."""
    text, failed = "", []
    for command in commands:
        code, printed = _run(command)
        text += printed
        if code != 0:
            failed.append(f"exit status {code} from {shlex.join(command)}")
    if failed:
        raise compiler.BuildError(
            f"The kernels must pass their test. Received: {'; '.join(failed)}"
        )
    return text


def _run(command: list[str]) -> tuple[int, str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    lines = []
    try:
        with subprocess.Popen(command, text=True, errors="replace", **pipes) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
    except OSError as error:
        raise compiler.BuildError(
            "The test and, for a check, compute-sanitizer of the CUDA toolkit must start. "
            f"Received: {command[0]}: {error.strerror}"
        ) from error
    return process.returncode, "".join(lines)
