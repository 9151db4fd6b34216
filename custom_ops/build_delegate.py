"""Compiles the TFLite delegate: `python -m custom_ops.build_delegate`.

One shared library, `custom_ops/tflite/libadder_delegate.so`, for every TFLite or LiteRT interpreter
and for its benchmark tool: no TensorFlow is needed to build it, and it links to nothing but libc,
libm and the loader. The compiler is that of the environment variable `CXX` (default `g++`).
"""

import argparse
import os
import pathlib
import sys

from custom_ops import compiler
from custom_ops.compiler import BuildError

SHELL = compiler.ROOT / "tflite"
LIBRARY = SHELL / "libadder_delegate.so"
SHARED = ["-shared", "-pthread", f"-Wl,--version-script={SHELL / 'exports.map'}"]
STATIC = ["-static-libstdc++", "-static-libgcc", "-Wl,-z,defs"]


def build_delegate(
    output: str | os.PathLike | None = None, quiet: bool = False, sanitize: str | None = None
) -> pathlib.Path:
    """Compiles the delegate.

    Args:
        output: where the library goes; default beside its sources, where `export` looks.
        quiet: if True, prints nothing.
        sanitize: for example `"address,undefined"`; the program that loads such a library must
            have the sanitizer loaded before (`LD_PRELOAD`).

    Returns:
        Path of the library.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    shell = [(source, []) for source in sorted(SHELL.glob("*.cc"))]
    sources = [*shell, *compiler.kernel_sources()]
    flags, link_flags = compiler.OPTIMIZED, [*SHARED, *STATIC]
    if sanitize:
        flags = ["-O1", "-g", f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"]
        link_flags = [*SHARED, f"-fsanitize={sanitize}"]
    return compiler.compile_and_link(sources, flags, link_flags, output or LIBRARY, quiet)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="where the library goes")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--sanitize", help="build it with these, e.g. address,undefined")
    arguments = parser.parse_args()
    try:
        build_delegate(arguments.output, arguments.quiet, arguments.sanitize)
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
