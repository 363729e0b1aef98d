"""What the store says about triggers: paused, tokens, queues. Cached: a delivery costs no query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.matching.triggers import StateKey
from service.store import sensors, triggers
from service.store.session import Commit, Database

TOPIC = "triggers"
SECONDS = 1.0  # a wake-up tells of changes at once; this is for one that got lost


@dataclass(frozen=True, slots=True)
class States:
    """One reading of the store."""

    paused: frozenset[StateKey]
    watching: frozenset[StateKey]  # triggers whose sensors have had their first sight
    queued: dict[StateKey, int]  # runs waiting, of triggers that limit them
    read_at: float  # monotonic

    def count_queued(self, key: StateKey) -> None:
        """Count a run that was asked for since the reading. A lost count is made good by the next reading."""
        self.queued[key] = self.queued.get(key, 0) + 1


class TriggerStates:
    """Reads again after a wake-up, and at the latest after a second. Safe to use from many threads."""

    def __init__(self, database: Database, *, limited: Callable[[], frozenset[StateKey]]) -> None:
        """`limited` names the triggers whose waiting runs are to be counted."""
        self._database = database
        self._limited = limited
        self._lock = threading.Lock()
        self._is_stale = True
        self._tokens: dict[StateKey, str] = {}  # once made, a token never changes
        self._states = States(frozenset(), frozenset(), {}, float("-inf"))

    def on_wake(self, topic: str) -> None:
        """Take note of a wake-up. Cheap: runs on the listener's thread."""
        if topic == TOPIC:
            self._is_stale = True

    def current(self) -> States:
        """Return the states. Raises StoreUnavailable when they had to be read and could not be."""
        if not self._is_stale and time.monotonic() - self._states.read_at < SECONDS:
            return self._states
        # Known to be stale: wait for the new ones. Only old: one thread reads, the others take the old ones.
        if not self._lock.acquire(blocking=self._is_stale):
            return self._states
        try:
            if self._is_stale or time.monotonic() - self._states.read_at >= SECONDS:
                self._states = self._read()
            return self._states
        finally:
            self._lock.release()

    def token_of(self, key: StateKey) -> str:
        """Return the trigger's own token, made at first sight."""
        if key not in self._tokens:
            self._tokens[key] = self._database.write(Commit.TRIGGER, lambda tx: triggers.token_of(tx, *key))
        return self._tokens[key]

    def _read(self) -> States:
        read_at = time.monotonic()
        self._is_stale = False  # before the reading: what changes during it is read once more
        try:
            with self._database.read() as connection:
                paused = triggers.paused(connection)
                watching = sensors.watching(connection)
                limited = self._limited()
                queued = dict(triggers.queued_runs(connection, limited)) if limited else {}
        except BaseException:
            self._is_stale = True
            raise
        return States(paused, watching, queued, read_at)
