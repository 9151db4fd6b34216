"""Errors that end a program with one clear sentence instead of a traceback."""

import sys
from collections.abc import Callable
from typing import Any

from absl import app

EXIT_ERROR = 1
EXIT_TERMINATED = 143


class RunError(Exception):
    """What the user must know; the message says the rule and what was received."""


class Terminated(RunError):
    """The run was asked to stop (SIGTERM) and has saved its state."""


def run(main: Callable[[], Any]) -> None:
    """Runs a program under absl; expected errors print one sentence and exit non-zero."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"Arguments must be flags. Received: {argv[1:]}")
        try:
            main()
        except Terminated as error:
            print(f"stopped: {error}", file=sys.stderr)
            sys.exit(EXIT_TERMINATED)
        except (RunError, ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_ERROR)

    app.run(guarded)
