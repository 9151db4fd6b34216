"""Flag files that are missing, damaged or go round in circles: one sentence, nothing written."""

import multiprocessing
import sys

import pytest
from absl import flags as absl_flags

import export.program
from experiments import errors
from experiments import flags as program_flags

PROGRAMS = {"experiments": errors.run, "export": export.program.run}
FILES = {
    "missing": (None, "Unable to open flagfile"),
    "binary": (bytes(range(256)), "A --flagfile must be text. Received: ['--flagfile="),
    "unknown": (b"--nonsense=3\n", "Unknown command line flag 'nonsense'"),
    "value": (b"--epochs=many\n", "flag --epochs=many"),
    "range": (b"--epochs=0\n", "flag --epochs=0"),
    "word": (b"epochs\n", "Arguments must be flags"),
}


def _program(package, output, argv):
    """The flags of a training program around a body that writes a file."""
    sys.argv = ["program", *argv]
    sys.stdout = sys.stderr = open(output, "a", buffering=1)
    for name in program_flags._names():  # of a test before, in the process this one is forked from
        delattr(absl_flags.FLAGS, name)
    program_flags.define(model="digits_resnet")
    PROGRAMS[package](lambda: print(f"epochs: {absl_flags.FLAGS.epochs}"))


def run(package, folder, file):
    """Exit code and text of a program given the flag file."""
    output = folder / "output.txt"
    arguments = package, output, [f"--flagfile={file}"]
    process = multiprocessing.get_context("fork").Process(target=_program, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode, output.read_text()


@pytest.mark.parametrize("package", PROGRAMS)
@pytest.mark.parametrize("kind", FILES)
def test_one_sentence_and_an_error(tmp_path, package, kind):
    contents, sentence = FILES[kind]
    file = tmp_path / "flags.cfg"
    if contents is not None:
        file.write_bytes(contents)
    code, text = run(package, tmp_path, file)
    assert code == 1 and sentence in text and "Traceback" not in text and "epochs: " not in text


@pytest.mark.parametrize("package", PROGRAMS)
def test_a_folder_is_no_flag_file(tmp_path, package):
    code, text = run(package, tmp_path, tmp_path)
    assert code == 1 and "Unable to open flagfile" in text and "Traceback" not in text


@pytest.mark.parametrize("package", PROGRAMS)
def test_files_that_name_each_other_are_read_once(tmp_path, package):
    first, second = tmp_path / "first.cfg", tmp_path / "second.cfg"
    first.write_text(f"--flagfile={first}\n--flagfile={second}\n--epochs=7\n")
    second.write_text(f"--flagfile={first}\n")
    code, text = run(package, tmp_path, first)
    assert code == 0 and "circular flagfile" in text and text.endswith("epochs: 7\n")
