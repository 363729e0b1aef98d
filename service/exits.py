"""Exit codes, and which error has which. Light, since `millrace --help` passes here."""

from __future__ import annotations

from service.errors import NotFound, SettingsError, UnsupportedStore

DONE = 0
FAILED = 1  # the run or the check failed, or what was asked for could not be done
WRONG_USE = 2  # what was given is wrong: the supervisor does not start such a process again
INTERRUPTED = 130  # by convention 128 + SIGINT


def exit_code_of(error: Exception) -> int:
    return WRONG_USE if isinstance(error, SettingsError | UnsupportedStore | NotFound) else FAILED
