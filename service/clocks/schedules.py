"""All schedules and expectations of an engine: those due at one moment are brought up to date together.

A thousand of them are due at a full hour: with a commit for each, the last would come seconds late.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial

from service.clock import Clock
from service.clocks.backing_off import BackingOff
from service.clocks.clocked import Clocked
from service.clocks.gathering import Gathering
from service.clocks.ticking import Ticker
from service.clocks.timer import Job
from service.clocks.timetable import Timetable
from service.matching.triggers import CompiledTrigger

POOL = "schedules"


class Schedules:
    """Knows which schedules there are, and has those ticked that are due. Safe to use from many threads."""

    def __init__(
        self, ticker: Ticker, clock: Clock, compiled: Callable[[str], CompiledTrigger | None]
    ) -> None:
        """`compiled` gives the trigger of a name as its files have it by now."""
        self._ticker = ticker
        self._clock = clock
        self._compiled = compiled
        self._backing_off = BackingOff(clock)
        self._gathering = Gathering("schedules", self._tick)
        self._lock = threading.Lock()
        self._timetables: Mapping[str, Timetable] | None = None
        self._named: Mapping[Timetable, Collection[str]] = {}
        self._counted_from: dict[str, datetime] = {}

    def start(self) -> None:
        self._gathering.start()

    def stop(self) -> None:
        self._gathering.stop()

    def reconcile(self, timetables: Mapping[str, Timetable]) -> None:
        """Make these, by name, all schedules there are. New ones are brought up to date at once."""
        named: dict[Timetable, list[str]] = defaultdict(list)
        for name, timetable in timetables.items():
            named[timetable].append(name)
        with self._lock:
            before = self._timetables or {}
            new = timetables.keys() - before.keys()
            if self._timetables is not None:
                # One that appears or changes under a running engine has no ticks before that moment.
                self._counted_from |= dict.fromkeys(new, self._clock())
            for name in before.keys() - timetables.keys():
                self._counted_from.pop(name, None)
                self._backing_off.forget(name)
            self._timetables, self._named = dict(timetables), named
        self._gathering.add(new)

    def jobs(self) -> Iterator[Job]:
        """Yield what the timer is to call: one job for all schedules of the same times."""
        for timetable in self._named:
            yield Job(f"{POOL} {timetable}", timetable, partial(self._add, timetable), POOL)

    def _add(self, timetable: Timetable) -> None:
        self._gathering.add(self._named.get(timetable, ()))

    def _tick(self, names: Collection[str]) -> None:
        clocked = {
            name: item
            for name in names
            if not self._backing_off.is_resting(name) and (item := self._clocked(name)) is not None
        }
        answers = self._ticker.bring_all_up_to_date(list(clocked.values()))
        for name, answer in zip(clocked, answers, strict=True):
            if isinstance(answer, Exception):
                self._gathering.add_later(name, self._backing_off.fail(name, answer))
            else:
                self._backing_off.forget(name)

    def _clocked(self, name: str) -> Clocked | None:
        with self._lock:
            timetable = (self._timetables or {}).get(name)
            counted_from = self._counted_from.get(name)
        compiled = self._compiled(name)
        if timetable is None or compiled is None:
            return None
        return Clocked(compiled, timetable, counted_from)
