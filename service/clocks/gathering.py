"""Hands names on in batches: what is added while one batch is worked on goes into the next, together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta

import structlog

logger = structlog.get_logger(__name__)


class Gathering:
    """One thread that works on all names that are waiting, each once however often it was added."""

    def __init__(self, name: str, work: Callable[[Collection[str]], object]) -> None:
        self._work = work
        self._due: set[str] = set()
        self._later: dict[str, float] = {}  # when a name is to be added, monotonic
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no other batch, and return when the current one has ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, names: Iterable[str]) -> None:
        with self._changed:
            self._due.update(names)
            self._changed.notify()

    def add_later(self, name: str, delay: timedelta) -> None:
        """Add a name after `delay`. The last wish counts."""
        with self._changed:
            self._later[name] = time.monotonic() + delay.total_seconds()
            self._changed.notify()

    def _run(self) -> None:
        while names := self._next_batch():
            try:
                self._work(names)
            except Exception:  # it tells of its own failures; this one would end the thread
                logger.exception("a batch failed", names=len(names))

    def _next_batch(self) -> set[str]:
        """Wait for names; none when it is over."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                ripe = {name for name, at in self._later.items() if at <= now}
                self._due |= ripe
                for name in ripe:
                    del self._later[name]
                if self._due:
                    names, self._due = self._due, set()
                    return names
                next_at = min(self._later.values(), default=None)
                self._changed.wait(None if next_at is None else next_at - now)
            return set()
