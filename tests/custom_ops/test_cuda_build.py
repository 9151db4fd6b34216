"""What the build does with nvcc, without it, and where it fails; which path a GPU takes."""

import ctypes.util
import subprocess
import sys
import warnings

import pytest
import tensorflow as tf

from custom_ops import build_cuda, compiler, nvcc
from pkkd_tf.ops import compiled, paths, reference, use_path, why_reference


@pytest.fixture
def failing_nvcc(monkeypatch, tmp_path):
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\necho no licence today >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("NVCC", str(program))
    return program


def test_nvcc_is_looked_for_in_three_places(monkeypatch, tmp_path, failing_nvcc):
    assert nvcc.path() == str(failing_nvcc)
    monkeypatch.setenv("NVCC", "")
    assert nvcc.path() is None
    monkeypatch.delenv("NVCC")
    (tmp_path / "bin").mkdir()
    failing_nvcc.rename(tmp_path / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert nvcc.path() == str(tmp_path / "bin" / "nvcc")
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert nvcc.path() == str(tmp_path / "bin" / "nvcc")


def test_without_nvcc_the_operations_are_for_the_processor(monkeypatch):
    monkeypatch.setenv("NVCC", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_cuda.objects_for_tensorflow() == []
    with pytest.raises(
        compiler.BuildError, match="The CUDA compiler is needed .* Received: NVCC=,"
    ):
        build_cuda.objects()


def test_a_failing_nvcc_gives_one_warning_and_no_gpu_kernels(failing_nvcc):
    with pytest.warns(UserWarning, match="for the processor only(.|\n)*no licence today") as caught:
        assert build_cuda.objects_for_tensorflow(quiet=True) == []
    assert len(caught) == 1
    assert not list(build_cuda.KERNELS.glob(".build-*"))


def test_bad_architectures(monkeypatch, failing_nvcc):
    monkeypatch.setenv("PKKD_TF_CUDA_ARCHITECTURES", "80,90")
    with pytest.raises(compiler.BuildError, match="Received: PKKD_TF_CUDA_ARCHITECTURES=80,90"):
        build_cuda.objects()


def test_command_line_ends_without_a_traceback(monkeypatch):
    monkeypatch.setenv("NVCC", "")
    for option in ([], ["--check"], ["--grid_test"]):
        monkeypatch.setattr(sys, "argv", ["build_cuda", "--quiet", *option])
        with pytest.raises(SystemExit, match="The CUDA compiler is needed"):
            build_cuda.main()


def test_the_library_tells_whether_it_has_gpu_kernels(operations):
    symbols = subprocess.run(["nm", compiled.LIBRARY], capture_output=True, text=True).stdout
    assert compiled.has_gpu_kernels() == ("pkkd_cuda_adder_forward" in symbols)


def test_operations_without_gpu_kernels_serve_no_gpu(monkeypatch):
    monkeypatch.setattr(compiled, "has_gpu_kernels", lambda: False)
    obstacle = "a GPU in use, for which the operations were not compiled"
    assert compiled.gpu_obstacle() == obstacle


@pytest.mark.skipif(bool(ctypes.util.find_library("cuda")), reason="there is a CUDA driver")
def test_operations_without_a_driver_serve_no_gpu(operations):
    missing = ("for which the operations were not compiled", "but there is no CUDA driver")
    assert compiled.gpu_obstacle() == f"a GPU in use, {missing[compiled.has_gpu_kernels()]}"


OBSTACLES = ("", "a GPU in use, but the driver serves CUDA 12.8 at most")


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_gpu_takes_the_compiled_path_where_it_can(operations, monkeypatch, obstacle):
    monkeypatch.setattr(compiled, "gpu_obstacle", lambda: obstacle)
    monkeypatch.setattr(paths.tf.config, "list_logical_devices", lambda kind: [f"{kind}:0"])
    for dtype in (tf.float32, tf.bfloat16, tf.float16):
        assert why_reference(dtype) == obstacle
    assert why_reference(tf.float64) == "dtype=float64"
    assert paths.path_for(tf.float32) is (reference if obstacle else compiled)
    if obstacle:
        received = f"Received: path='compiled', {obstacle}"
        with use_path("compiled"), pytest.raises(RuntimeError, match=received):
            paths.path_for(tf.float32)

    @tf.function(jit_compile=True)
    def under_xla():
        assert why_reference(tf.float32) == "inside of a function that XLA compiles"
        return tf.zeros([])

    under_xla()


def test_the_tests_on_a_gpu_need_no_tensorflow():
    missing = "dict.fromkeys(('tensorflow', 'keras', 'pkkd_tf'))"
    wanted = "from tests.custom_ops import test_cuda, test_cuda_obstacle"
    code = f"import sys; sys.modules.update({missing}); {wanted}"
    subprocess.run([sys.executable, "-c", code], cwd=compiler.ROOT.parent, check=True)


def test_operations_older_than_the_question_serve_no_gpu(monkeypatch):
    monkeypatch.setattr(compiled, "has_gpu_kernels", lambda: True)
    monkeypatch.setattr(compiled.ctypes, "CDLL", lambda path: object())
    obstacle = "a GPU in use, but the compiled operations are older than this package"
    assert compiled.gpu_obstacle() == obstacle
