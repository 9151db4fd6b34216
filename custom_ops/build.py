"""Compiles the native code: `python -m custom_ops.build`.

One shared library, `custom_ops/tensorflow/_pkkd_ops.so`, from the kernels and the TensorFlow
shell, with the compiler of the environment variable `CXX` (C++17; `g++` where unset or empty) and
the headers of the installed TensorFlow. It works with that TensorFlow version only. About half a
minute, and a minute more the first time where nvcc is found: `custom_ops.build_cuda` says how.
"""

import argparse
import os
import pathlib
import sys
import tempfile

from custom_ops import build_cuda, nvcc
from custom_ops.compiler import (
    KERNELS,
    OPTIMIZED,
    ROOT,
    BuildError,
    compile_and_link,
    kernel_sources,
    run,
)

SHELL = ROOT / "tensorflow"
LIBRARY = SHELL / "_pkkd_ops.so"
KERNELS_LIBRARY = ROOT / "kernels" / "_pkkd_kernels.so"


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
    gpu = build_cuda.objects_for_tensorflow(quiet)
    compile_flags += nvcc.compile_flags() if gpu else []
    shell = [(source, compile_flags) for source in sorted(SHELL.glob("*.cc"))]
    sources = [*shell, *kernel_sources()]
    flags = ["-shared", *gpu, *link_flags]
    return compile_and_link(sources, OPTIMIZED, flags, output or LIBRARY, quiet)


def build_kernels(output: str | os.PathLike | None = None, quiet: bool = False) -> pathlib.Path:
    """Compiles the kernels alone, as C functions (kernels/cpu/c_api.cc): no TensorFlow needed.

    Args, Returns, Raises: as `build`.
    """
    sources = [*kernel_sources(), (KERNELS / "c_api.cc", [])]
    flags = ["-shared", "-pthread"]
    return compile_and_link(sources, OPTIMIZED, flags, output or KERNELS_LIBRARY, quiet)


def build_grid_test(
    output: str | os.PathLike, sanitize: str | None = None, quiet: bool = False
) -> pathlib.Path:
    """Compiles kernels/cpu/grid_test.cc, a program that tests every kernel against plain loops.

    Args:
        output: where the program goes.
        sanitize: for example `"address,undefined"` or `"thread"`; default none.
        quiet: if True, prints nothing.

    Returns, Raises: as `build`.
    """
    flags = [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"] if sanitize else []
    tests = [(KERNELS / name, []) for name in ("grid_test.cc", "int8_grid_test.cc")]
    link_flags = [*flags, "-pthread"]
    sources = [*kernel_sources(), *tests]
    return compile_and_link(sources, ["-O1", "-g", *flags], link_flags, output, quiet)


def run_grid_test(sanitize: str | None = None, quiet: bool = False) -> None:
    """Compiles that program and runs it.

    Args: as of `build_grid_test`.

    Raises:
        BuildError: it does not compile, or a kernel or a sanitizer complains.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = run([str(build_grid_test(f"{folder}/grid_test", sanitize, quiet))])
    if not quiet:
        print(report, end="")


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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="where the library, or with --grid_test the program, goes")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--kernels", action="store_true", help="the kernels without TensorFlow")
    parser.add_argument("--grid_test", action="store_true", help="run the C++ test of the kernels")
    parser.add_argument("--sanitize", help="run it with these, e.g. address,undefined or thread")
    try:
        _execute(parser.parse_args())
    except BuildError as error:
        sys.exit(str(error))


def _execute(arguments: argparse.Namespace) -> None:
    output, quiet = arguments.output, arguments.quiet
    if not (arguments.grid_test or arguments.sanitize):
        (build_kernels if arguments.kernels else build)(output, quiet)
    elif output:  # for another machine, or an emulator of it
        build_grid_test(output, arguments.sanitize, quiet)
    else:
        run_grid_test(arguments.sanitize, quiet)


if __name__ == "__main__":
    main()
