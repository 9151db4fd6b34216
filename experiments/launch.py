"""Several workers of one run on this machine.

    python -m experiments.launch --workers=2 -- experiments.digits --output=runs/two

Everything after `--` is a program of `experiments` and its flags. The workers find each other
through TF_CONFIG on free ports of this machine; each line of their output is printed behind the
worker's number. When one ends with an error the others are stopped, and its exit code is the
launcher's (128 + N where signal N ended it). SIGTERM is passed on. So is a first SIGINT (Ctrl-C),
as SIGTERM, since a terminal's reaches the workers too; a second one ends them at once. The exit
code is then 130.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from absl import app, flags

from experiments.errors import EXIT_INTERRUPTED, EXIT_WORKER_LOST

GRACE_SECONDS = 60  # to save and leave, then SIGKILL
POLL_SECONDS = 0.1


def main(argv: list[str]) -> None:
    """Starts the workers and ends with their exit code."""
    if len(argv) < 2:
        raise app.UsageError(
            "A program must follow `--`, such as `-- experiments.digits --output=DIR`. "
            f"Received: {argv[1:]}"
        )
    sys.exit(launch(argv[1:], flags.FLAGS.workers))


def launch(command: list[str], workers: int) -> int:
    """Runs `python -m COMMAND...` in as many processes; returns the exit code."""
    if not any(word.startswith("--strategy") for word in command):
        command = [*command, "--strategy=multi_worker"]
    processes = [_start(command, config) for config in configurations(workers)]
    readers = [
        threading.Thread(target=_copy, args=(index, process.stdout), daemon=True)
        for index, process in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    received = _pass_signals_on(processes)
    code = _wait(processes)
    for reader in readers:
        reader.join(timeout=GRACE_SECONDS)
    return EXIT_INTERRUPTED if signal.SIGINT in received and code > 128 else code


def _pass_signals_on(processes: list[subprocess.Popen]) -> list[int]:
    """Sends the workers what comes from now on; returns the list that it is noted in."""
    received: list[int] = []

    def on_signal(number: int, _: Any) -> None:
        received.append(number)
        again = received.count(signal.SIGINT) > 1
        _signal(processes, signal.SIGKILL if again else signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return received


def configurations(workers: int) -> list[dict[str, Any]]:
    """TF_CONFIG for each worker, on ports that were free just now."""
    sockets = [socket.socket() for _ in range(workers)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()
    cluster = {"worker": addresses}
    return [
        {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(workers)
    ]


def _start(command: list[str], config: dict[str, Any]) -> subprocess.Popen:
    environment = {**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _copy(index: int, output: Any) -> None:
    for line in output:
        text = line.decode(errors="replace").rstrip("\n")
        sys.stdout.write(f"[{index}] {text}\n")  # in one piece: print would write twice
        sys.stdout.flush()


def _wait(processes: list[subprocess.Popen]) -> int:
    """Returns 0, or the exit code of the first worker that failed, after stopping the others."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed:
            # The others often notice first: what they say of the lost one is not the cause.
            causes = [index for index in failed if codes[index] != EXIT_WORKER_LOST]
            index = (causes or failed)[0]
            return _stop(processes, index, _exit_code(codes[index]))
        if all(code == 0 for code in codes):
            return 0
        time.sleep(POLL_SECONDS)


def _stop(processes: list[subprocess.Popen], index: int, code: int) -> int:
    others = [number for number, process in enumerate(processes) if process.poll() is None]
    stopping = f"; stopping {others}" if others else ""  # they may have stopped of themselves
    print(
        f"launch: worker {index} ended with exit code {code}{stopping}", file=sys.stderr, flush=True
    )
    _signal(processes, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return code


def _signal(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
    app.run(main)
