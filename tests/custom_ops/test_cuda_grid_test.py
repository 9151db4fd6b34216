"""How the test of the GPU kernels is built, kept and run, without a GPU."""

import builtins
import sys

import pytest

from custom_ops import build_cuda, compiler, cuda_grid_test, nvcc


def write_program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def sanitizer(monkeypatch, tmp_path):
    """A compute-sanitizer whose memcheck fails, and a test that is built at once."""
    text = 'echo "$4 with $6"; [ $4 != memcheck ]'
    write_program(tmp_path / "compute-sanitizer", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(cuda_grid_test, "build_program", lambda output, quiet: output)


@pytest.mark.parametrize("every", [None, 7])
def test_racecheck_follows_a_memcheck_that_failed(sanitizer, capsys, every):
    with pytest.raises(compiler.BuildError, match="exit status 1 from .*memcheck") as error:
        cuda_grid_test.run_on_gpu(check=True, every=every)
    assert "--tool racecheck" not in str(error.value)
    step = every or 41
    assert capsys.readouterr().out == f"memcheck with {step}\nracecheck with {step}\n"


@pytest.mark.parametrize("step", [cuda_grid_test.CHECKED, 91])
def test_steps_share_no_factor_with_the_grid(step):
    assert all(step % size for size in (3, 11))


def test_a_step_must_be_positive(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build_cuda", "--grid_test", "--every=0"])
    with pytest.raises(SystemExit, match="`every` must be positive. Received: every=0"):
        build_cuda.main()


def test_output_is_shown_as_it_comes(monkeypatch, tmp_path):
    seen = tmp_path / "seen"
    waiting = f"for i in $(seq 100); do [ -e {seen} ] && exit 0; sleep 0.05; done; exit 1"
    program = write_program(tmp_path / "program", f"echo first; {waiting}")
    monkeypatch.setattr(builtins, "print", lambda *_, **__: seen.touch())
    assert cuda_grid_test._follow([[str(program)]]) == "first\n"


def test_no_compute_sanitizer(tmp_path):
    with pytest.raises(
        compiler.BuildError, match="compute-sanitizer of the CUDA toolkit must start"
    ):
        cuda_grid_test._follow([[str(tmp_path / "missing")]])


def test_the_program_is_built_and_kept_for_another_machine(monkeypatch, tmp_path, capsys):
    compiler = write_program(tmp_path / "compiler", 'for last; do :; done\n: > "$last"')
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(build_cuda, "objects", lambda quiet, sources: [])
    monkeypatch.setattr(nvcc, "link_flags", list)
    program = tmp_path / "grid_test"
    monkeypatch.setattr(sys, "argv", ["build_cuda", "--grid_test", f"--output={program}"])
    build_cuda.main()
    assert program.exists()
    assert capsys.readouterr().out == f"built {program}; on a GPU: {program} [n]\n"


def test_a_check_keeps_no_file(monkeypatch, capsys):
    for option in ("--check", "--emulate"):
        monkeypatch.setattr(sys, "argv", ["build_cuda", option, "--output=program"])
        with pytest.raises(SystemExit):
            build_cuda.main()
        assert "keeps no file. Received: --output=program" in capsys.readouterr().err


def test_a_warning_of_the_compiler_ends_no_build(monkeypatch, tmp_path):
    text = 'case "$*" in *-Werror*) exit 1;; --version) exit 0;; esac\n'
    text += 'for last; do :; done\n: > "$last"'
    monkeypatch.setenv("NVCC", str(write_program(tmp_path / "nvcc", text)))
    monkeypatch.setattr(build_cuda, "KERNELS", tmp_path)
    (tmp_path / "kernel.cu").write_text("")
    (path,) = build_cuda.objects(quiet=True, sources=("kernel.cu",))
    assert path.startswith(str(tmp_path / "kernel-"))


def test_another_toolkit_behind_the_same_path_compiles_again(monkeypatch, tmp_path):
    """As where nvcc is a script that starts one of several."""
    compiler = tmp_path / "nvcc"
    monkeypatch.setenv("NVCC", str(compiler))
    monkeypatch.setattr(build_cuda, "KERNELS", tmp_path)
    (tmp_path / "kernel.cu").write_text("")

    def compiled(release):
        text = f'if [ "$1" = --version ]; then echo {release}; exit; fi'
        write_program(compiler, text + '\nfor last; do :; done\n: > "$last"')
        return build_cuda.objects(quiet=True, sources=("kernel.cu",))

    first = compiled("12.9")
    assert compiled("12.9") == first != compiled("13.0")
    before = compiled("13.0")
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-G")
    assert compiled("13.0") != before
    assert len(list(tmp_path.glob("kernel-*.o"))) == 1


@pytest.mark.slow
@pytest.mark.skipif(nvcc.path() is None, reason="there is no nvcc")
@pytest.mark.parametrize("source", [*build_cuda.C_API, cuda_grid_test.SOURCE])
def test_nvcc_warns_of_nothing(monkeypatch, tmp_path, source):
    monkeypatch.setenv("PKKD_TF_CUDA_ARCHITECTURES", "90")
    quick = ["-Xcicc=-O0", "-Xptxas=-O0"]  # the front ends warn
    flags = [*nvcc.flags(), *quick, "-Werror=all-warnings"]
    path, target = str(build_cuda.KERNELS / source), str(tmp_path / "kernel.o")
    nvcc.run([*flags, "-c", path, "-o", target])
