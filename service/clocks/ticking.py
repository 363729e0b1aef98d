"""Ticks of schedules and expectations: finds those due, and records each once, with its event and run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice

import structlog

from pipelines.model import TriggerType
from sensors.event import Event
from service.clock import Clock
from service.clocks.catch_up import DueTick
from service.clocks.clocked import Clocked
from service.clocks.expectations import judge
from service.clocks.timetable import Timetable, timetable_of
from service.dispatcher import Dispatcher
from service.errors import CommitUnknown, StoreUnavailable
from service.matching.decisions import Interval
from service.matching.triggers import CompiledTrigger, StateKey
from service.store import ticks, triggers
from service.store.session import Commit, Database, Transaction
from service.store.ticks import Standing, Tick
from service.store.values import NewEvent

logger = structlog.get_logger(__name__)

TICK_TYPE = "schedule.tick"
MISSED = "missed"  # the outcome of a tick that nobody runs; all others are their event's, or `met`
PAGE = 200  # ticks that share a commit: few enough for a webhook to wait its turn


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tick to be recorded, and whose it is."""

    place: int
    tick: Tick
    event: NewEvent | None = None  # none for one that starts nothing
    is_keyed: bool = False  # its event's key, and not its moment, tells it from others


class Ticker:
    """Brings schedules up to date: whatever is due by now is in the store afterwards.

    It may be called at any time and by several engines at once; the unique key of a tick decides whose it is.
    """

    def __init__(self, database: Database, dispatcher: Dispatcher, clock: Clock) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._clock = clock

    def bring_up_to_date(self, compiled: CompiledTrigger, *, counted_from: datetime | None = None) -> int:
        """Record the due ticks of one trigger and return how many were new.

        Ticks up to `counted_from` do not exist: then a running engine saw the trigger appear or change.
        Raises StoreUnavailable and TimetableError.
        """
        clocked = Clocked(compiled, timetable_of(compiled.trigger.spec), counted_from)
        (answer,) = self.bring_all_up_to_date([clocked])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def bring_all_up_to_date(self, clocked: Sequence[Clocked]) -> list[int | Exception]:
        """Record the due ticks of many triggers in shared commits; answer how many were new, in each place.

        One that cannot be decided or recorded gets its exception, and stops no other.
        """
        now = self._clock()
        answers: list[int | Exception] = [0] * len(clocked)
        try:
            standings = self._standings(clocked)
            due = self._due(clocked, standings, now, answers)
            while page := list(islice(due, PAGE)):
                self._take(page, clocked, standings, answers)
        except (StoreUnavailable, CommitUnknown) as error:
            return [error] * len(clocked)  # what was recorded before is found so by the next try
        return answers

    def _standings(self, clocked: Sequence[Clocked]) -> Mapping[StateKey, Standing]:
        keys = {item.compiled.state_key for item in clocked}
        found = self._read_standings(keys)
        unseen = sorted(keys - found.keys())
        if unseen:
            self._database.write(Commit.TRIGGER, lambda tx: [triggers.see(tx, *key) for key in unseen])
            found |= self._read_standings(unseen)
        return found

    def _read_standings(self, keys: Collection[StateKey]) -> dict[StateKey, Standing]:
        with self._database.read() as connection:
            return ticks.standings(connection, keys)

    def _due(
        self,
        clocked: Sequence[Clocked],
        standings: Mapping[StateKey, Standing],
        now: datetime,
        answers: list[int | Exception],
    ) -> Iterator[tuple[int, DueTick]]:
        """Yield what is due, by the names of the triggers: two engines lock the same rows in one order."""
        for place in sorted(range(len(clocked)), key=lambda place: clocked[place].compiled.state_key):
            item = clocked[place]
            try:
                yield from (
                    (place, tick)
                    for tick in item.due(standings[item.compiled.state_key], now, self._database)
                )
            except (StoreUnavailable, CommitUnknown):
                raise
            except Exception as error:
                answers[place] = error

    def _take(
        self,
        page: Sequence[tuple[int, DueTick]],
        clocked: Sequence[Clocked],
        standings: Mapping[StateKey, Standing],
        answers: list[int | Exception],
    ) -> None:
        """Plan and record a page; when its commit fails, find out whose fault it was."""
        planned: list[_Planned] = []
        for place, due in page:
            if isinstance(answers[place], Exception):
                continue  # an earlier tick of the same trigger has failed; they are tried again in order
            item = clocked[place]
            try:
                planned.append(self._plan(place, item, standings[item.compiled.state_key], due))
            except (StoreUnavailable, CommitUnknown):
                raise
            except Exception as error:
                answers[place] = error
        try:
            self._commit(planned, answers)
        except (StoreUnavailable, CommitUnknown):
            raise
        except Exception:
            for place, own in groupby(planned, key=lambda one: one.place):
                try:
                    self._commit(list(own), answers)
                except (StoreUnavailable, CommitUnknown):
                    raise
                except Exception as error:
                    answers[place] = error

    def _commit(self, planned: Sequence[_Planned], answers: list[int | Exception]) -> None:
        if not planned:
            return
        recorded = self._database.write(Commit.TICK, lambda tx: self._record(tx, planned))
        for one in recorded:
            before = answers[one.place]
            answers[one.place] = before + 1 if isinstance(before, int) else before
        if recorded:
            _log(recorded)

    def _record(self, tx: Transaction, planned: Sequence[_Planned]) -> list[_Planned]:
        """Record the ticks nobody has recorded, and only their events and runs."""
        is_won = ticks.record_ticks(tx, [one.tick for one in planned])
        won = [one for one, mine in zip(planned, is_won, strict=True) if mine]
        with_event = [one for one in won if one.event is not None]
        recorded = self._dispatcher.record_page(
            tx, [one.event for one in with_event if one.event is not None]
        )
        for one, answer in zip(with_event, recorded, strict=True):
            if isinstance(answer, Exception):
                raise answer  # nothing of this transaction stays, and the ticks are tried again
            if answer.duplicate and one.is_keyed:
                ticks.take_back(tx, one.tick)
                won.remove(one)
            elif one.tick.run_id is not None and one.tick.run_id not in answer.run_ids:
                ticks.correct_tick(tx, one.tick, answer.outcome, answer.reason)
        return won

    def _plan(self, place: int, item: Clocked, standing: Standing, due: DueTick) -> _Planned:
        compiled = item.compiled
        if due.missed is not None:
            return _Planned(place, Tick(*compiled.state_key, due.at, MISSED, due.missed))
        if compiled.trigger.type is TriggerType.EXPECTATION:
            judged = judge(self._database, item, due.at, first_seen=standing.first_seen)
            if judged.breach is None:
                return _Planned(place, Tick(*compiled.state_key, due.at, judged.outcome, judged.reason))
            return self._planned(place, item, due, judged.breach, judged.window)
        return self._planned(place, item, due, _event(item, due), _interval(item.timetable, due.at))

    def _planned(
        self, place: int, item: Clocked, due: DueTick, event: Event, interval: Interval | None
    ) -> _Planned:
        compiled = item.compiled
        planned = self._dispatcher.plan(compiled.project, event, [compiled], interval=interval)
        match = planned.matches[0]  # its own comes first; others may listen for such events
        run_id = match.run.id if match.run else None
        reason = match.reason or event.subject
        tick = Tick(*compiled.state_key, due.at, match.outcome.value, reason, planned.id, run_id)
        return _Planned(place, tick, planned, is_keyed=due.key is not None)


def _event(item: Clocked, due: DueTick) -> Event:
    moment = due.at.isoformat().replace("+00:00", "Z")
    return Event(
        source=item.source, key=due.key or moment, type=TICK_TYPE, time=due.at, data={"tick": moment}
    )


def _interval(timetable: Timetable, at: datetime) -> Interval | None:
    end = timetable.next(at)
    return None if end is None else Interval(at, end)


def _log(recorded: Sequence[_Planned]) -> None:
    """Tell once per commit; which tick became what is in the store."""
    triggers = {(one.tick.project, one.tick.pipeline, one.tick.trigger) for one in recorded}
    names = dict(zip(("project", "pipeline", "trigger"), min(triggers), strict=True))
    logger.info(
        "schedules ticked",
        **(names if len(triggers) == 1 else {"triggers": len(triggers)}),
        tick=recorded[-1].tick.tick_at.isoformat(),
        recorded=len(recorded),
        missed=sum(one.tick.outcome == MISSED for one in recorded),
    )
