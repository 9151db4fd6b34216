"""The CUDA compiler: where it is, its flags, and running it.

The environment variable `NVCC` names it, else `CUDA_HOME` its toolkit's folder, else it is looked
for on the path; `NVCC=` (empty) means none.
"""

import os
import pathlib
import shutil
import subprocess

from custom_ops import compiler

ARCHITECTURES = "75;80;86;89;90"
VARIABLES = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN")


def path() -> str | None:
    """Path of the CUDA compiler, or None where there is none or it is not wanted."""
    if "NVCC" in os.environ:
        return shutil.which(os.environ["NVCC"])
    if "CUDA_HOME" in os.environ:
        return shutil.which(os.path.join(os.environ["CUDA_HOME"], "bin", "nvcc"))
    return shutil.which("nvcc")


def toolkit() -> pathlib.Path:
    """The folder with the toolkit's `include` and `lib64`.

    Raises:
        BuildError: there is no nvcc, or it does not say.
    """
    for line in run(["-dryrun", "-x", "cu", os.devnull], stderr=True).splitlines():
        name, _, value = line.removeprefix("#$ ").partition("=")
        if name == "TOP":
            return pathlib.Path(value.strip()).resolve()
    raise compiler.BuildError(f"nvcc must name its toolkit's folder. Received: nvcc={path()}")


def state() -> str:
    """What decides, beside flags and sources, on what it makes: another state, other objects."""
    variables = [f"{name}={os.environ.get(name)}" for name in VARIABLES]
    return "\n".join([str(path()), run(["--version"]), *variables])


def compile_flags() -> list[str]:
    """What the TensorFlow shell needs for its GPU half."""
    return ["-DGOOGLE_CUDA=1", "-DEIGEN_USE_GPU", f"-isystem{toolkit() / 'include'}"]


def link_flags() -> list[str]:
    """The CUDA runtime as a static library that shows no symbol of its own.

    They stand before TensorFlow's: its libraries export functions of the same names, which exist
    only where TensorFlow was built for GPUs.
    """
    top = toolkit()
    folders = [f"-L{top / name}" for name in ("lib64", "lib") if (top / name).is_dir()]
    hide = "-Wl,--exclude-libs,libcudart_static.a"
    return [*folders, hide, "-lcudart_static", "-ldl", "-lrt", "-lpthread"]


def flags() -> list[str]:
    """What every kernel is compiled with.

    Raises:
        BuildError: `PKKD_TF_CUDA_ARCHITECTURES` holds something else than numbers.
    """
    warned = "-Xcompiler=-fPIC,-Wall,-Wextra"
    return ["-std=c++17", "-O3", f"-I{compiler.ROOT.parent}", warned, *_architecture_flags()]


def _architecture_flags() -> list[str]:
    wanted = os.environ.get("PKKD_TF_CUDA_ARCHITECTURES", ARCHITECTURES).split(";")
    if not all(name.isdigit() for name in wanted):
        raise compiler.BuildError(
            "PKKD_TF_CUDA_ARCHITECTURES must be numbers like 80 with ; between them. "
            f"Received: PKKD_TF_CUDA_ARCHITECTURES={';'.join(wanted)}"
        )
    flags = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in wanted]
    newest = max(wanted, key=int)
    return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]


def run(arguments: list[str], stderr: bool = False) -> str:
    """Runs it and returns what it prints, of `stderr` even where it fails.

    Raises:
        BuildError: there is none, or it fails.
    """
    nvcc = path()
    if nvcc is None:
        raise compiler.BuildError(
            "The CUDA compiler is needed to build the GPU kernels. Received: NVCC="
            f"{os.environ.get('NVCC')}, CUDA_HOME={os.environ.get('CUDA_HOME')}, and no nvcc there "
            "or on the path"
        )
    if not stderr:
        return compiler.run([nvcc, *arguments])
    return subprocess.run([nvcc, *arguments], capture_output=True, text=True).stderr
