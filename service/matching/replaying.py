"""A stored event is done again: read from the bytes that came, decided by the triggers as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipelines.errors import MillraceError
from pipelines.model import TriggerType
from sensors.event import Event
from sensors.payloads import Format, read_payload
from service.clocks.timetable import TimetableError, timetable_of
from service.matching.decisions import Interval
from service.matching.listeners import Listeners
from service.matching.planning import WEBHOOK_RECEIVED, Moment, event_of, plan_event
from service.matching.triggers import CompiledTrigger, TriggerKey
from service.store.replays import Kept
from service.store.values import REPLAY_MARK, NewEvent, Outcome, StoredEvent

ROAD = "replay"
TICK_TYPE = "schedule.tick"


class ReplayError(MillraceError):
    """One event cannot be done again. One sentence."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The only triggers that a replay is for; None leaves it open."""

    pipeline: str | None = None
    trigger: str | None = None

    def takes(self, compiled: CompiledTrigger) -> bool:
        return self.pipeline in (None, compiled.pipeline.name) and self.trigger in (None, compiled.name)


@dataclass(frozen=True, slots=True)
class Triggers:
    """The triggers of the event's project, as its files have them now."""

    by_key: Mapping[TriggerKey, CompiledTrigger]
    listeners: Listeners


def plan_replay(kept: Kept, triggers: Triggers, moment: Moment, *, only: Narrowed, end: str) -> NewEvent:
    """Decide on a new event that repeats `kept`. `end` makes its key unique. Raises ReplayError.

    Its runs are for the time when the first one came, where nothing else gives them a date.
    """
    stored = kept.event
    event = again(kept, triggers.by_key)
    chosen = [compiled for compiled in concerned(stored, event, triggers) if only.takes(compiled)]
    if not chosen:
        raise ReplayError(f"event {stored.id}: no enabled trigger{_named(only)} takes it now")
    then = replace(moment, now=stored.received_at, interval=_interval(event, chosen))
    planned = plan_event(stored.project, event, chosen, then, road=ROAD)
    passed = moment.now - stored.received_at
    return replace(
        planned,
        key=f"{stored.original_key}{REPLAY_MARK}{end}",
        received_at=moment.now,
        replay_of=stored.id,
        shared=False,
        payload_until=_later(planned.payload_until, passed),
        keep_until=_later(planned.keep_until, passed),
    )


def again(kept: Kept, triggers: Mapping[TriggerKey, CompiledTrigger]) -> Event:
    """Return the event as it would be read today. Raises ReplayError when its payload is not stored."""
    stored = kept.event
    if kept.has_expired:
        raise ReplayError(f"event {stored.id}: its payload has expired and cannot be read again")
    event = replace(event_of(stored), raw=kept.raw, content_type=kept.content_type)
    was_unreadable = stored.outcome is Outcome.QUARANTINED
    if kept.raw is None:
        if was_unreadable:
            raise ReplayError(
                f"event {stored.id}: it was quarantined and has no bytes that could be read anew"
            )
        return event
    if not was_unreadable and stored.type != WEBHOOK_RECEIVED:
        return event
    own = _own(stored, triggers)
    payload = read_payload(
        kept.raw, kept.content_type, _format(own), stored.headers.get("content-encoding", "")
    )
    return replace(event, data=payload.data, raw=payload.raw, quarantine=payload.quarantine)


def concerned(stored: StoredEvent, event: Event, triggers: Triggers) -> list[CompiledTrigger]:
    """Return the triggers that the event concerns now.

    Its own, those that had it before and are not listeners, and whoever listens for such events today.
    """
    listening = {one.state_key for one, _ in triggers.listeners.watching}
    own = {} if (first := _own(stored, triggers.by_key)) is None else {first.state_key: first}
    for match in stored.matches:
        compiled = triggers.by_key.get((match.pipeline, match.trigger))
        if compiled is not None and not _listens(compiled) and compiled.state_key not in listening:
            own[compiled.state_key] = compiled
    return triggers.listeners.concerned(event, list(own.values()), frozenset())


def _own(stored: StoredEvent, triggers: Mapping[TriggerKey, CompiledTrigger]) -> CompiledTrigger | None:
    """Return the trigger that a source such as `webhook:taxi/from_api` names."""
    pipeline, _, name = stored.source.partition(":")[2].partition("/")
    return triggers.get((pipeline, name))


def _listens(compiled: CompiledTrigger) -> bool:
    return compiled.trigger.type is TriggerType.EVENT


def _format(own: CompiledTrigger | None) -> Format:
    named = own.trigger.spec.get("format") if own is not None else None
    return Format(named) if named in tuple(Format) else Format.AUTO


def _interval(event: Event, chosen: list[CompiledTrigger]) -> Interval | None:
    if event.type != TICK_TYPE:
        return None
    try:
        following = timetable_of(chosen[0].trigger.spec).next(event.time)
    except TimetableError:
        return None
    return None if following is None else Interval(event.time, following)


def _later(moment: datetime | None, passed: timedelta) -> datetime | None:
    return None if moment is None else moment + passed


def _named(only: Narrowed) -> str:
    words = [f"of pipeline {only.pipeline!r}"] if only.pipeline else []
    return " ".join(["", *words, *([f"named {only.trigger!r}"] if only.trigger else [])])
