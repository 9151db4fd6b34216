"""The wheel, built and installed in an environment of its own, works away from the source tree."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = "pkkd_tf custom_ops experiments export setup.py pyproject.toml README.md LICENSE".split()
FOREIGN = "custom_ops/tflite/libadder_delegate.so"
IGNORED = shutil.ignore_patterns("__pycache__", "*.so", "*.o")
TESTS = [
    "tests/ops",
    "--ignore=tests/ops/test_memory.py",  # of tiles, which no installation changes
    "tests/layers",
    "tests/custom_ops/test_operations.py",
    "tests/models/test_serialization.py",
]


def run(folder, *command):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PKKD_TF_OPS")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy(names, folder):
    folder.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=IGNORED)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources without anything compiled but what is foreign."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = copy(SOURCES, folder / "sources")
    (sources / FOREIGN).write_text("of another machine")
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    code, output = run(folder, sys.executable, "-m", "pip", "wheel", *options, str(sources))
    assert code == 0, output
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of a fresh environment, which finds what the package needs in this one.

    The lines of `.pth` files are not followed from there: an editable installation stays hidden.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(folder, sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["install", "--no-deps", "--no-index", str(wheel)]
    code, output = run(folder, sys.executable, "-m", "pip", "--python", python, *options)
    assert code == 0, output
    return python, packages


def test_the_wheel_is_for_this_platform(wheel):
    platform = sysconfig.get_platform().replace("-", "_")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name == f"pkkd_tf-0.1.0-{python}-{python}-{platform}.whl"


def test_what_was_compiled_elsewhere_stays_out(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert FOREIGN not in names
    assert {"custom_ops/tflite/delegate.cc", "custom_ops/tflite/exports.map"} <= {*names}
    assert {"custom_ops/tensorflow/ops.cc", "custom_ops/kernels/cuda/forward.cuh"} <= {*names}
    trained = ("resnet20_cifar10.keras", "resnet20_cifar10_int8.tflite")
    assert {f"pkkd_tf/pretrained/{name}" for name in trained} <= {*names}


def test_packages_come_from_the_wheel_with_the_compiled_operation(installed, tmp_path):
    python, packages = installed
    program = (
        "import custom_ops, experiments, export, pkkd_tf; from pkkd_tf.ops import compiled\n"
        "print(*(m.__file__ for m in (custom_ops, experiments, export, pkkd_tf)), sep='\\n')\n"
        "print(compiled.LIBRARY, compiled.is_available(), compiled.why_unavailable())"
    )
    code, output = run(tmp_path, python, "-c", program)
    assert code == 0, output
    names = ("custom_ops", "experiments", "export", "pkkd_tf")
    lines = [str(packages / name / "__init__.py") for name in names]
    library = packages / "custom_ops" / "tensorflow" / "_pkkd_ops.so"
    assert "\n".join([*lines, f"{library} True"]) in output


def test_the_tests_pass_on_the_installed_package(installed, tmp_path):
    away = copy(["tests", "pyproject.toml"], tmp_path / "away")
    options = ["-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "-m", "not long"]
    code, output = run(away, installed[0], "-m", "pytest", *options, *TESTS)
    assert code == 0, output[-5000:]


def test_programs_run_from_the_installed_package(installed, tmp_path):
    options = ["--smoke", "--verbose=0", "--nocompare_plain", f"--output={tmp_path / 'run'}"]
    code, output = run(tmp_path, installed[0], "-m", "experiments.digits", *options)
    assert code == 0, output
    assert (tmp_path / "run" / "student.keras").is_file()
    assert "adder operations: compiled" in output
    _, output = run(tmp_path, installed[0], "-m", "export.tflite", "--help")
    assert "python -m export.tflite --model=" in output and "--format" in output


@pytest.mark.parametrize("compiler", ["no-such-compiler", "'", "."], ids=["none", "text", "folder"])
def test_without_a_usable_compiler_the_wheel_is_pure_and_a_warning_says_so(
    compiler, tmp_path, monkeypatch
):
    sources = copy(SOURCES, tmp_path / "sources")
    monkeypatch.setenv("CXX", compiler)
    options = ["-v", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    code, output = run(tmp_path, sys.executable, "-m", "pip", "wheel", *options, str(sources))
    assert code == 0, output
    assert "warning: pkkd_tf is installed without its compiled operations. They need" in output
    assert f"Received: CXX={compiler}\n" in output
    assert [path.name for path in tmp_path.glob("*.whl")] == ["pkkd_tf-0.1.0-py3-none-any.whl"]


def test_a_compiler_that_fails_leaves_the_operations_out_with_a_warning(tmp_path, monkeypatch):
    sources = copy(SOURCES, tmp_path / "sources")
    monkeypatch.setenv("CXX", "false")
    options = ["-v", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    code, output = run(tmp_path, sys.executable, "-m", "pip", "wheel", *options, str(sources))
    assert code == 0, output
    text = "without its compiled operations. A command of the build failed. Received: exit status 1"
    assert text in output
