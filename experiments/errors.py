"""Errors that end a program with one clear sentence instead of a traceback."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from absl import app

EXIT_ERROR = 1
# Job controllers restart on both (Kubeflow's restart policy ExitCode names them): 143 is what a
# shell reports of a process that SIGTERM ended, 138 is left to users for errors worth a retry.
EXIT_TERMINATED = 143
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT, Ctrl-C
EXIT_WORKER_LOST = 138
LINGER_SECONDS = 5


class RunError(Exception):
    """What the user must know; the message says the rule and what was received."""


class Terminated(RunError):
    """The run was asked to stop (SIGTERM) and has saved its state."""

    code = EXIT_TERMINATED


class Interrupted(Terminated):
    """The same by SIGINT."""

    code = EXIT_INTERRUPTED


class WorkerLost(RunError):
    """Another worker of the run is gone; the last checkpoint is good."""


@contextmanager
def stating(rule: str, error_type: type[RunError] = RunError) -> Iterator[None]:
    """An `OSError` in the block becomes an error that says the rule and what was received."""
    try:
        yield
    except OSError as error:
        raise error_type(f"{rule} Received: {error}") from error


def run(main: Callable[[], Any]) -> None:
    """Runs a program under absl; expected errors print one sentence and exit non-zero."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"Arguments must be flags. Received: {argv[1:]}")
        _leave(exit_code(main))

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except UnicodeDecodeError as error:
        print(f"error: A --flagfile must be text. Received: {argv[1:]}, {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


def exit_code(main: Callable[[], Any]) -> int:
    """Calls `main`; prints what the user must know and returns the program's exit code."""
    try:
        main()
    except Terminated as error:
        print(f"stopped: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("stopped: SIGINT came before the program had ended.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except WorkerLost as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_WORKER_LOST
    except (RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        sentence = _about_data(error)
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return EXIT_ERROR
    return 0


def _about_data(error: Exception) -> str:
    """What a data pipeline says of a damaged file, out of TensorFlow's words; else nothing.

    By the names of the classes, since not every program needs TensorFlow.
    """
    name, text = type(error).__name__, str(error)
    if name == "InvalidArgumentError" and (
        found := re.search("ValueError: (.*Received: .*)", text)
    ):
        return found.group(1)
    if name == "DataLossError" and (
        found := re.search("((corrupted|truncated) record at .*)", text)
    ):
        return (
            "Every TFRecord file must be as it was written; prepare the data set again. "
            f"Received: {found.group(1)}"
        )
    return ""


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if code == EXIT_INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends the waiting below
    if "TF_CONFIG" in os.environ:
        if code != EXIT_WORKER_LOST:
            time.sleep(LINGER_SECONDS)  # another one may still fetch its part of the last sum
        os._exit(code)  # a worker; TensorFlow's way out waits until it has missed the others
    sys.exit(code)
