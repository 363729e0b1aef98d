"""Ticks of a schedule: finds those that are due, and records each once, together with its event and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from sensors.event import Event
from service.clock import Clock
from service.clocks.catch_up import CatchUp, DueTick, due_ticks
from service.clocks.timetable import Timetable, timetable_of
from service.dispatcher import Dispatcher
from service.matching.decisions import Interval
from service.matching.triggers import CompiledTrigger
from service.store import ticks, triggers
from service.store.session import Commit, Database, Transaction
from service.store.ticks import Tick
from service.store.values import NewEvent

logger = structlog.get_logger(__name__)

TICK_TYPE = "schedule.tick"
MISSED = "missed"  # the outcome of a tick that nobody runs; all others are their event's


@dataclass(frozen=True, slots=True)
class _Planned:
    tick: Tick
    event: NewEvent | None  # None for a missed tick


class Ticker:
    """Brings a schedule up to date: whatever is due by now is in the store afterwards.

    It may be called at any time and by several engines at once; the unique key of a tick decides whose it is.
    """

    def __init__(self, database: Database, dispatcher: Dispatcher, clock: Clock) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._clock = clock

    def bring_up_to_date(self, compiled: CompiledTrigger, *, counted_from: datetime | None = None) -> int:
        """Record the due ticks of a schedule and return how many were new.

        Ticks up to `counted_from` do not exist: then a running engine saw the trigger appear or change.
        Raises StoreUnavailable and TimetableError.
        """
        now = self._clock()
        since = max(self._since(compiled), counted_from or datetime.min.replace(tzinfo=now.tzinfo))
        timetable = timetable_of(compiled.trigger.spec)
        policy = CatchUp.parse(compiled.trigger.spec.get("catch_up"))
        due = due_ticks(timetable, policy, since=since, now=now)
        if not due:
            return 0
        planned = [self._plan(compiled, timetable, tick) for tick in due]
        recorded = self._database.write(Commit.TICK, lambda tx: self._record(tx, planned))
        _log(compiled, planned, recorded)
        return recorded

    def _since(self, compiled: CompiledTrigger) -> datetime:
        """Return the last tick on record, else when the trigger was first seen by any engine."""
        place = (compiled.project, compiled.pipeline.name, compiled.name)
        with self._database.read() as connection:
            last = ticks.last_tick(connection, *place)
        if last is not None:
            return last
        return self._database.write(Commit.TRIGGER, lambda tx: triggers.see(tx, *place)).created_at

    def _record(self, tx: Transaction, planned: Sequence[_Planned]) -> int:
        """Record the ticks nobody has recorded, and only their events and runs."""
        won = [item for item in planned if ticks.record_tick(tx, item.tick)]
        mine = [item.event for item in won if item.event is not None]
        for answer in self._dispatcher.record_page(tx, mine):
            if isinstance(answer, Exception):
                raise answer  # nothing of this transaction stays, and the ticks are tried again
        return len(won)

    def _plan(self, compiled: CompiledTrigger, timetable: Timetable, due: DueTick) -> _Planned:
        place = (compiled.project, compiled.pipeline.name, compiled.name)
        if due.missed is not None:
            return _Planned(Tick(*place, due.at, MISSED, due.missed), None)
        event = self._dispatcher.plan(
            compiled.project, _event(compiled, due.at), [compiled], interval=_interval(timetable, due.at)
        )
        (match,) = event.matches
        run_id = match.run.id if match.run else None
        tick = Tick(*place, due.at, match.outcome.value, match.reason, event.id, run_id)
        return _Planned(tick, event)


def _event(compiled: CompiledTrigger, at: datetime) -> Event:
    moment = at.isoformat().replace("+00:00", "Z")
    return Event(
        source=f"schedule:{compiled.pipeline.name}/{compiled.name}",
        key=moment,
        type=TICK_TYPE,
        time=at,
        data={"tick": moment},
    )


def _interval(timetable: Timetable, at: datetime) -> Interval | None:
    end = timetable.next(at)
    return None if end is None else Interval(at, end)


def _log(compiled: CompiledTrigger, planned: Sequence[_Planned], recorded: int) -> None:
    missed = sum(item.event is None for item in planned)
    logger.info(
        "schedule ticked",
        project=compiled.project,
        pipeline=compiled.pipeline.name,
        trigger=compiled.name,
        tick=planned[-1].tick.tick_at.isoformat(),
        recorded=recorded,
        missed=missed,
    )
