"""The launcher with small programs in the workers' place: output, exit codes, signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAMS = {
    "report": "import os, sys; print('config', 'worker' in os.environ['TF_CONFIG'], sys.argv[1:])",
    "talk": "for number in range(300): print(number, flush=True)",
    "fail": """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
if index == 1:
    sys.exit(7)
time.sleep(600)
""",
    "die": """
import json, os, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
if index == 0:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
""",
    "stay": """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("not now", flush=True))
print("ready", flush=True)
while True:
    time.sleep(600)
""",
    "wait": """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(600)
""",
}


@pytest.fixture
def start(tmp_path):
    for name, text in PROGRAMS.items():
        (tmp_path / f"program_{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}

    def run(name, *arguments):
        command = [sys.executable, "-m", "experiments.launch", "--workers=2", "--"]
        return subprocess.Popen(
            [*command, f"program_{name}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return run


def test_every_worker_gets_its_place_and_the_flags(start):
    output, errors = (process := start("report", "--epochs=1")).communicate(timeout=100)
    assert process.returncode == 0, errors
    line = "config True ['--epochs=1', '--strategy=multi_worker']"
    assert sorted(output.splitlines()) == [f"[0] {line}", f"[1] {line}"]


def test_lines_of_workers_stay_whole(start):
    output, _ = start("talk").communicate(timeout=100)
    assert sorted(output.splitlines()) == sorted(f"[{w}] {n}" for w in (0, 1) for n in range(300))


@pytest.mark.parametrize(("name", "code", "worker"), [("fail", 7, 1), ("die", 137, 0)])
def test_when_one_fails_the_others_are_stopped(start, name, code, worker):
    began = time.monotonic()
    _, errors = (process := start(name)).communicate(timeout=100)
    assert process.returncode == code
    assert f"worker {worker} ended with exit code {code}; stopping [{1 - worker}]" in errors
    assert time.monotonic() - began < 60


def by_both(process, text):
    """Waits for a line of each worker."""
    lines = {process.stdout.readline() for _ in range(2)}
    assert lines == {f"[0] {text}\n", f"[1] {text}\n"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_passed_on(start, number, code):
    by_both(process := start("wait"), "ready")
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == code


def test_a_second_sigint_ends_all_at_once(start):
    by_both(process := start("stay"), "ready")
    process.send_signal(signal.SIGINT)
    by_both(process, "not now")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130 and time.monotonic() - began < 60


def test_a_program_must_be_named(start):
    command = [sys.executable, "-m", "experiments.launch", "--workers=2"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "A program must follow `--`" in result.stdout + result.stderr
