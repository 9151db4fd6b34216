"""The build says in words what it lacks."""

import sys

import pytest

from custom_ops import build


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError) as error:
        build.build_kernels(tmp_path / "kernels.so")
    assert "A C++17 compiler is needed" in str(error.value)
    assert "Received: CXX=no-such-compiler, which is not found" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_no_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(build.BuildError, match="compiled against an installed TensorFlow"):
        build.build(tmp_path / "ops.so")


def test_failing_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "g++ -no-such-flag")
    with pytest.raises(build.BuildError, match="exit status 1 from(.|\n)*no-such-flag"):
        build.build_kernels(tmp_path / "kernels.so", quiet=True)
    assert not list(tmp_path.iterdir())


def test_command_line_ends_without_a_traceback(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(sys, "argv", ["build", "--kernels", "--quiet"])
    with pytest.raises(SystemExit, match="A C\\+\\+17 compiler is needed"):
        build.main()
