"""Exit codes, and which error has which."""

from __future__ import annotations

from service.errors import NotFound
from service.supervisor import EXIT_WRONG_USE, NO_RESTART_MENDS

DONE = 0
FAILED = 1  # the run or the check failed, or what was asked for could not be done
WRONG_USE = EXIT_WRONG_USE
INTERRUPTED = 130  # by convention 128 + SIGINT


def exit_code_of(error: Exception) -> int:
    return WRONG_USE if isinstance(error, (*NO_RESTART_MENDS, NotFound)) else FAILED
