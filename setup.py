"""Package metadata, and the native code built on the way where a compiler is there."""

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TENSORFLOW = ">=2.21,<2.22"
TFMOT = ["tensorflow-model-optimization>=0.8.1,<0.9", "tf-keras>=2.21,<2.22"]
SHELLS = ("tensorflow", "tflite")  # sources alone: what is compiled belongs to this machine
WITHOUT = "warning: pkkd_tf is installed without its compiled operations."


def find_compiler() -> str | None:
    """Path of the compiler; None where there is none, or `CXX` is no command of a shell."""
    try:
        command = shlex.split(os.environ.get("CXX", ""))
    except ValueError:
        return None
    return shutil.which(command[0] if command else "g++")


COMPILER = find_compiler()


class BuildPython(build_py):
    """Says once what an installation without a compiler lacks: `BuildOps` does not run then."""

    def run(self) -> None:
        """As `build_py`."""
        super().run()
        if COMPILER is None:
            received = os.environ.get("CXX", "g++")
            print(f"{WITHOUT} They need a C++17 compiler. Received: CXX={received}")


class BuildOps(build_ext):
    """Compiles `custom_ops/tensorflow/_pkkd_ops.so`; without it the package works, more slowly."""

    def run(self) -> None:
        """Builds into the wheel, or beside the sources for an editable installation."""
        inplace = self.inplace or getattr(self, "editable_mode", False)
        folder = ROOT if inplace else Path(self.build_lib)
        output = folder / "custom_ops" / "tensorflow" / "_pkkd_ops.so"
        output.parent.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(ROOT))
        from custom_ops import build

        try:
            build.build(output)
        except build.BuildError as error:
            print(f"{WITHOUT} {error}")

    def get_outputs(self) -> list[str]:
        """The library is written beside its sources or into the wheel by `run` alone."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """As `get_outputs`."""
        return {}


def build_requirements() -> list[str]:
    """The operations are compiled against TensorFlow's headers: needed where pip isolates."""
    if COMPILER is None or importlib.util.find_spec("tensorflow"):
        return []
    return [f"tensorflow{TENSORFLOW}"]


setup(
    name="pkkd_tf",
    version="0.1.0",
    description="Adder networks in TensorFlow and Keras, trained by progressive distillation",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The pkkd_tf authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.12",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: C++",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["pkkd_tf*", "custom_ops*", "experiments*", "export*"]),
    package_data={
        "custom_ops": [
            *(f"kernels/**/*.{suffix}" for suffix in ("cc", "h", "cu", "cuh")),
            *(f"{folder}/*.{suffix}" for folder in SHELLS for suffix in ("cc", "h", "map")),
        ],
        "pkkd_tf": ["pretrained/*.keras", "pretrained/*.tflite"],
    },
    ext_modules=[Extension("custom_ops.tensorflow._pkkd_ops", [])] if COMPILER else [],
    cmdclass={"build_ext": BuildOps, "build_py": BuildPython},
    setup_requires=build_requirements(),
    install_requires=[
        f"tensorflow{TENSORFLOW}",
        "keras>=3.15,<3.16",
        "tensorflow-datasets>=4.9.10,<4.10",
        "importlib_resources",  # tensorflow-datasets needs it and does not say so
        "absl-py>=1.4",
        "numpy>=2.1",
        "scikit-learn>=1.5",
        "matplotlib>=3.9",
    ],
    extras_require={
        "gpu": [f"tensorflow[and-cuda]{TENSORFLOW}"],
        "tfmot": TFMOT,
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.14",
            "mypy>=1.15",
            "pillow",
            "ai-edge-litert>=2.3,<2.4",
            *TFMOT,
        ],
    },
)
