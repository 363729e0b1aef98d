"""Replays: shown before they are done, and done in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.dispatcher import Dispatcher
from service.errors import NotFound
from service.matching.replaying import Narrowed, ReplayError
from service.store import replays
from service.store.event_reading import EventFilters, matches_of
from service.store.replays import Kept
from service.store.session import Commit, Database, Transaction
from service.store.values import Match, NewEvent, NewMatch, Outcome, Recorded

MOST_EVENTS = 1000  # of one request; a backfill over events takes more, and holds them to a concurrency


@dataclass(frozen=True, slots=True)
class Change:
    """A variable that differs from last time. `was_there` and `is_there` tell null from absent."""

    name: str
    before: Any
    now: Any
    was_there: bool = True
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    """What one trigger makes of a replay."""

    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None
    run_id: str | None  # none before it is done
    variables: Mapping[str, Any] | None  # of the run it starts
    changes: tuple[Change, ...] = ()
    has_last_time: bool = False  # a run of the first event, to compare with


@dataclass(frozen=True, slots=True)
class Replay:
    """One event, done again or shown. With an `error` it cannot be."""

    event_id: str
    replay_id: str | None = None
    outcome: Outcome | None = None
    starts: tuple[Start, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Which events are to be done again: named ones, or the first that fit the filters."""

    event_ids: tuple[str, ...] = ()
    filters: EventFilters = field(default_factory=EventFilters)
    only: Narrowed = field(default_factory=Narrowed)
    limit: int = MOST_EVENTS


class Replays:
    """Plans and performs replays. A replay is a new event, recorded like every other."""

    def __init__(self, database: Database, dispatcher: Dispatcher) -> None:
        self._database = database
        self._dispatcher = dispatcher

    def preview(self, wish: Wish) -> list[Replay]:
        """Return what each event would start, oldest first. Writes nothing. Raises NotFound."""
        return [_shown(one) for one in self._planned(wish)]

    def perform(self, wish: Wish) -> list[Replay]:
        """Do the events again, all in one transaction, and return what each started. Raises NotFound."""
        planned = self._planned(wish)
        new = [one.new for one in planned if one.new is not None]
        answers = iter(self._database.write(Commit.REPLAY, lambda tx: self._record(tx, new)))
        with self._database.read() as connection:
            matches = matches_of(connection, [event.id for event in new])
        return [
            _shown(one) if one.new is None else _done(one, next(answers), matches[one.new.id])
            for one in planned
        ]

    def _record(self, tx: Transaction, new: Sequence[NewEvent]) -> list[Recorded | Exception]:
        return self._dispatcher.record_page(tx, new) if new else []

    def _planned(self, wish: Wish) -> list[_Planned]:
        with self._database.read() as connection:
            if wish.event_ids:
                found = replays.load(connection, wish.event_ids)
                _check_all_there(wish.event_ids, found)
            else:
                found = replays.oldest(connection, wish.filters, limit=wish.limit)
            run_ids = [match.run_id for kept in found for match in kept.event.matches if match.run_id]
            before = replays.variables_of_runs(connection, run_ids)
        return [self._plan(kept, wish.only, before) for kept in found]

    def _plan(self, kept: Kept, only: Narrowed, before: Mapping[str, Mapping[str, Any]]) -> _Planned:
        last_time = {
            (match.pipeline, match.trigger): before[match.run_id]
            for match in kept.event.matches
            if match.run_id is not None and match.run_id in before
        }
        try:
            return _Planned(kept.event.id, self._dispatcher.plan_replay(kept, only=only), last_time)
        except ReplayError as error:
            return _Planned(kept.event.id, None, last_time, str(error))


@dataclass(frozen=True, slots=True)
class _Planned:
    event_id: str
    new: NewEvent | None
    last_time: Mapping[tuple[str, str], Mapping[str, Any]]
    error: str | None = None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the variables that differ, by name."""
    return tuple(
        Change(name, before.get(name), now.get(name), name in before, name in now)
        for name in sorted(before.keys() | now.keys())
        if (name in before, before.get(name)) != (name in now, now.get(name))
    )


def _shown(one: _Planned) -> Replay:
    if one.new is None:
        return Replay(one.event_id, error=one.error)
    starts = tuple(_start(match, one.last_time) for match in one.new.matches)
    return Replay(one.event_id, None, one.new.outcome, starts)


def _done(one: _Planned, answer: Recorded | Exception, matches: Sequence[Match]) -> Replay:
    """Return the replay as it was recorded: a limit may have had its say after the planning."""
    if isinstance(answer, Exception):
        return Replay(one.event_id, error=f"event {one.event_id}: {answer}")
    recorded = {(match.pipeline, match.trigger): match for match in matches}
    starts = []
    for start in _shown(one).starts:
        match = recorded[start.pipeline, start.trigger]
        starts.append(replace(start, outcome=match.outcome, reason=match.reason, run_id=match.run_id))
    return Replay(one.event_id, answer.event_id, answer.outcome, tuple(starts))


def _start(match: NewMatch, last_time: Mapping[tuple[str, str], Mapping[str, Any]]) -> Start:
    before = last_time.get((match.pipeline, match.trigger))
    now = match.run.variables if match.run else None
    changes = differences(before, now) if before is not None and now is not None else ()
    return Start(
        match.pipeline, match.trigger, match.outcome, match.reason, None, now, changes, before is not None
    )


def _check_all_there(wanted: Sequence[str], found: Sequence[Kept]) -> None:
    there = {kept.event.id for kept in found}
    for event_id in wanted:
        if event_id not in there:
            raise NotFound("event", event_id)
