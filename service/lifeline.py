"""A pipe by which a process learns that the one which started it is gone, even when that one was killed -9.

The parent keeps the writing end open and never writes. The operating system closes it with the parent, and
every reader sees the end of the file. Unlike PR_SET_PDEATHSIG this works on every Unix, and is not confused
by the threads of the parent.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable


class Lifeline:
    """The parent's side. Give `reading_end` to children by `pass_fds`; the other end stays here."""

    def __init__(self) -> None:
        self.reading_end, self._writing_end = os.pipe()

    def cut(self) -> None:
        os.close(self._writing_end)
        os.close(self.reading_end)


def is_cut(reading_end: int) -> bool:
    """Return True when the parent is gone. Never blocks."""
    readable, _, _ = select.select([reading_end], [], [], 0)
    return bool(readable)


def watch(reading_end: int, on_cut: Callable[[], None]) -> threading.Thread:
    """Call `on_cut` from a thread of its own once the parent is gone."""

    def wait() -> None:
        os.read(reading_end, 1)
        on_cut()

    thread = threading.Thread(target=wait, name="lifeline", daemon=True)
    thread.start()
    return thread


def terminate_self(grace_seconds: float) -> Callable[[], None]:
    """Return an action that stops this process in good order, and by force when that takes too long."""

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        force = threading.Timer(grace_seconds, os.kill, (os.getpid(), signal.SIGKILL))
        force.daemon = True
        force.start()

    return stop
