"""Events of a span of time, as an expectation counts them: by index, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select

from service.store.ids import first_id
from service.store.tables import events, matches
from service.store.values import Outcome, StoredEvent

PAGE = 500
CLOCKS_DIFFER = timedelta(days=1)  # an event's id was made by a host whose clock may have been wrong

_COLUMNS = (
    events.c.id,
    events.c.project,
    events.c.source,
    events.c.key,
    events.c.type,
    events.c.subject,
    events.c.time,
    events.c.received_at,
    events.c.outcome,
    events.c.data,
    events.c.headers,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events count. Those received after `begin`, up to and including `end`."""

    project: str
    begin: datetime
    end: datetime
    type: str | None = None
    source: str | None = None
    taken_by: tuple[str, str] | None = None  # pipeline and trigger


def events_within(connection: Connection, wanted: Wanted) -> Iterator[StoredEvent]:
    """Yield the wanted events by their ids, without their matches.

    What was there at a sensor's first sight says nothing of when it came: it counts by its own time. What
    could not be read, and what was replayed, does not count.
    """
    after = first_id(wanted.begin - CLOCKS_DIFFER)
    query = _query(wanted).order_by(events.c.id).limit(PAGE)
    while rows := connection.execute(query.where(events.c.id > after)).all():
        for row in rows:
            yield StoredEvent(
                id=row.id,
                project=row.project,
                source=row.source,
                key=row.key,
                type=row.type,
                subject=row.subject,
                time=row.time,
                received_at=row.received_at,
                outcome=Outcome(row.outcome),
                reason=None,
                replay_of=None,
                data=None if row.data is None else json.loads(row.data),
                headers=row.headers or {},
            )
        after = rows[-1].id


def _query(wanted: Wanted) -> Select[Any]:
    query = select(*_COLUMNS).where(
        events.c.project == wanted.project,
        events.c.outcome != Outcome.QUARANTINED.value,
        events.c.replay_of.is_(None),
        _came_within(wanted),
    )
    if wanted.type is not None:
        query = query.where(events.c.type == wanted.type)
    if wanted.source is not None:
        query = query.where(events.c.source == wanted.source)
    if wanted.taken_by is None:
        return query
    pipeline, trigger = wanted.taken_by
    return query.join(matches, matches.c.event_id == events.c.id).where(
        matches.c.project == wanted.project,
        matches.c.pipeline == pipeline,
        matches.c.trigger == trigger,
        matches.c.outcome != Outcome.FILTERED.value,
        # The same bound for both: each index can do with its own.
        matches.c.event_id > first_id(wanted.begin - CLOCKS_DIFFER),
    )


def _came_within(wanted: Wanted) -> Any:
    received = and_(events.c.received_at > wanted.begin, events.c.received_at <= wanted.end)
    happened = and_(events.c.time > wanted.begin, events.c.time <= wanted.end)
    is_baseline = events.c.outcome == Outcome.BASELINE.value
    return or_(and_(~is_baseline, received), and_(is_baseline, happened, events.c.received_at <= wanted.end))
