"""The build says in words what it lacks."""

import sys

import pytest

from custom_ops import build, build_delegate, compiler


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(compiler.BuildError) as error:
        build.build_kernels(tmp_path / "kernels.so")
    assert "A C++17 compiler is needed" in str(error.value)
    assert "Received: CXX=no-such-compiler, no-such-compiler: No such file" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_empty_compiler_is_the_usual_one(monkeypatch):
    for empty in ("", " "):
        monkeypatch.setenv("CXX", empty)
        assert compiler.command() == ["g++"]


def test_a_compiler_that_no_shell_reads(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "g++ '")
    text = (
        "CXX must be a command as a shell reads it. Received: CXX=g\\+\\+ ', No closing quotation"
    )
    with pytest.raises(compiler.BuildError, match=text):
        build.build_kernels(tmp_path / "kernels.so", quiet=True)


def test_a_compiler_that_is_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path))
    text = f"A C\\+\\+17 compiler is needed .* CXX={tmp_path}, {tmp_path}: Permission denied"
    with pytest.raises(compiler.BuildError, match=text):
        build.build_kernels(tmp_path / "kernels.so", quiet=True)


@pytest.fixture
def quick_compiler(monkeypatch, tmp_path):
    """What it makes is empty."""
    program = tmp_path / "compiler"
    program.write_text('#!/bin/sh\nfor last; do :; done\n[ $# = 1 ] || : > "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))


def test_a_test_for_another_machine_is_not_run(quick_compiler, monkeypatch, tmp_path, capfd):
    target = tmp_path / "grid_test"
    monkeypatch.setattr(sys, "argv", ["build", "--grid_test", f"--output={target}"])
    build.main()
    assert target.is_file() and f"built {target}\n" in capfd.readouterr().out


@pytest.mark.parametrize("output", ["none/delegate.so", "."], ids=["no folder", "a folder"])
def test_an_output_that_is_no_file_of_a_folder(quick_compiler, monkeypatch, tmp_path, output):
    (tmp_path / "full" / "it").mkdir(parents=True)
    target = tmp_path / "full" / output
    monkeypatch.setattr(sys, "argv", ["build_delegate", "--quiet", f"--output={target}"])
    text = "The output must be a file in a folder that exists and can be written to. Received: "
    with pytest.raises(SystemExit) as stop:
        build_delegate.main()
    assert f"{text}output={target}, [Errno " in str(stop.value)


def test_no_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(compiler.BuildError, match="compiled against an installed TensorFlow"):
        build.build(tmp_path / "ops.so")


def test_failing_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "g++ -no-such-flag")
    with pytest.raises(compiler.BuildError, match="exit status 1 from(.|\n)*no-such-flag"):
        build.build_kernels(tmp_path / "kernels.so", quiet=True)
    assert not list(tmp_path.iterdir())


def test_command_line_ends_without_a_traceback(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(sys, "argv", ["build", "--kernels", "--quiet"])
    with pytest.raises(SystemExit, match="A C\\+\\+17 compiler is needed"):
        build.main()
