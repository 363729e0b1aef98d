"""What becomes of the events that a paused trigger held, once it is resumed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from service.clock import Clock
from service.errors import NotFound
from service.matching.triggers import CompiledTrigger, StateKey
from service.store import held, triggers
from service.store.session import Commit, Database, Transaction
from service.store.values import NewMatch, Outcome, StoredEvent

PAGE = 100  # events in one transaction

FindTrigger = Callable[[StateKey], CompiledTrigger | None]
DecideStored = Callable[[CompiledTrigger, StoredEvent, datetime], NewMatch]


class Held(StrEnum):
    """What a person wants of the held events."""

    RUN = "run"  # all of them, oldest first
    LATEST = "latest"  # only the newest, of each key of its limit or group that it settles in
    DROP = "drop"  # none: they end as skipped


class Releaser:
    """Lets held events go. `find` returns a trigger that is enabled and whose pipeline is good."""

    def __init__(self, database: Database, clock: Clock, *, find: FindTrigger, decide: DecideStored) -> None:
        self._database = database
        self._clock = clock
        self._find = find
        self._decide = decide

    def resume(self, key: StateKey, choice: Held) -> int:
        """Resume a trigger and do with its held events as chosen. Return how many there were."""
        if choice is not Held.RUN:
            return self._choose(key, choice)
        self._database.write(Commit.TRIGGER, lambda tx: triggers.resume(tx, *key))
        return self._let_go(key)

    def left_over(self) -> int:
        """Let go what was held for triggers that are not paused: by a process that saw the resume late."""
        with self._database.read() as connection:
            holding = held.holding(connection)
            paused = triggers.paused(connection)
        return sum(self._let_go(key) for key in sorted(holding - paused))

    def _let_go(self, key: StateKey) -> int:
        compiled = self._find(key)
        if compiled is None or compiled.is_paused_by_file:
            return 0  # broken, gone, or held by choice: the events stay visible
        now = self._clock()
        released = 0
        while page := self._database.write(
            Commit.TRIGGER,
            lambda tx: held.release_held(
                tx, *key, lambda stored: self._decide(compiled, stored, now), limit=PAGE
            ),
        ):
            released += page
        return released

    def _choose(self, key: StateKey, choice: Held) -> int:
        """Decide first and resume with the last page: what is let go of must not be taken for left over."""
        compiled = self._find(key)
        if choice is Held.LATEST and compiled is None:
            raise NotFound("trigger that could take its latest event", "/".join(key))
        now = self._clock()

        def judge(stored: StoredEvent) -> NewMatch:
            if compiled is None or choice is Held.DROP:
                return _skipped(key, "it was dropped when the trigger was resumed")
            return self._decide(compiled, stored, now)

        chooser = _Chooser(key, judge)
        released = 0
        while True:
            page, chooser = self._database.write(Commit.TRIGGER, chooser.page)
            released += page
            if page < PAGE:
                return released


class _Chooser:
    """Takes the newest held event of each key. It is never changed: a page may be begun anew."""

    def __init__(
        self, key: StateKey, judge: held.Decide, taken: frozenset[tuple[str, ...]] = frozenset()
    ) -> None:
        """`taken` are the keys whose newest event has been found."""
        self._key = key
        self._judge = judge
        self._taken = taken

    def page(self, tx: Transaction) -> tuple[int, _Chooser]:
        """Decide on a page, and resume the trigger with the last one. Return the chooser of the next."""
        taken = set(self._taken)
        count = held.release_held(
            tx, *self._key, lambda stored: self._choose(stored, taken), limit=PAGE, newest_first=True
        )
        if count < PAGE:
            triggers.resume(tx, *self._key)
        return count, _Chooser(self._key, self._judge, frozenset(taken))

    def _choose(self, stored: StoredEvent, taken: set[tuple[str, ...]]) -> NewMatch:
        match = self._judge(stored)
        if match.outcome not in (Outcome.RAN, Outcome.HELD):
            return match
        limits = match.run.limits if match.run else ()
        among = (match.settle_group or "", *(limit.key for limit in limits))
        if among in taken:
            return _skipped(self._key, "a newer event was let go in its stead")
        taken.add(among)
        return match


def _skipped(key: StateKey, reason: str) -> NewMatch:
    _, pipeline, trigger = key
    return NewMatch(pipeline, trigger, Outcome.SKIPPED, reason)
