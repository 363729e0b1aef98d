"""Events as they lie in the store, with what became of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, exists, literal_column, select

from service.store.statements import AnyRow
from service.store.tables import deliveries, events, matches
from service.store.values import Delivery, Match, Outcome, StoredEvent, Verdict

MAX_DELIVERIES = 100  # shown of one event: the newest

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
    events.c.reason,
    events.c.replay_of,
    events.c.data,
    events.c.headers,
    events.c.hops,
)
_MATCHES = (
    select(
        matches.c.event_id,
        matches.c.pipeline,
        matches.c.trigger,
        matches.c.outcome,
        matches.c.reason,
        matches.c.run_id,
        matches.c.settle_group,
    )
    .where(matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
    .order_by(matches.c.event_id, matches.c.position)
)
_DELIVERIES = (
    select(deliveries.c.verdict, deliveries.c.reason, deliveries.c.at, deliveries.c.road)
    .where(deliveries.c.event_id == bindparam("event_id"))
    .order_by(deliveries.c.id.desc())
    .limit(MAX_DELIVERIES)
)
_EVENT = select(*_COLUMNS).where(events.c.id == bindparam("event_id"))
_RAW = select(events.c.raw).where(events.c.id == bindparam("event_id"))


@dataclass(frozen=True, slots=True)
class EventFilters:
    """What a list of events is narrowed to; None asks for all."""

    project: str | None = None
    pipeline: str | None = None
    trigger: str | None = None
    outcome: Outcome | None = None
    source: str | None = None
    since: datetime | None = None  # received at or after
    until: datetime | None = None  # received before


def get(connection: Connection, event_id: str) -> StoredEvent | None:
    """Return an event with its matches and its newest deliveries, or None."""
    row = connection.execute(_EVENT, {"event_id": event_id}).one_or_none()
    if row is None:
        return None
    arrivals = connection.execute(_DELIVERIES, {"event_id": event_id}).all()
    shown = tuple(
        Delivery(Verdict(verdict), reason, at, road) for verdict, reason, at, road in reversed(arrivals)
    )
    return stored_event(row, matches_of(connection, [event_id])[event_id], shown)


def raw_of(connection: Connection, event_id: str) -> bytes | None:
    """Return the bytes of an event as they came, where they were kept."""
    raw = connection.execute(_RAW, {"event_id": event_id}).scalar_one_or_none()
    return None if raw is None else bytes(raw)


def listing(
    connection: Connection,
    *,
    project: str | None = None,
    pipeline: str | None = None,
    trigger: str | None = None,
    outcome: Outcome | None = None,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    after_id: str | None = None,
) -> list[StoredEvent]:
    """Return events newest first, with their matches and without their deliveries.

    `after_id` is the last id of the page before; `since` is included, `until` is not.
    """
    query = select_events().order_by(events.c.id.desc()).limit(limit)
    query = narrowed(query, EventFilters(project, pipeline, trigger, outcome, source, since, until))
    if after_id is not None:
        query = query.where(events.c.id < after_id)
    return with_matches(connection, connection.execute(query).all())


def following(
    connection: Connection, filters: EventFilters, *, after_id: str, limit: int = 500
) -> list[StoredEvent]:
    """Return the events whose ids are greater than `after_id`, oldest first, with their matches."""
    query = select_events().where(events.c.id > after_id).order_by(events.c.id).limit(limit)
    return with_matches(connection, connection.execute(narrowed(query, filters)).all())


def with_matches(connection: Connection, rows: Sequence[AnyRow]) -> list[StoredEvent]:
    """Return the values of event rows, each with its matches."""
    found = matches_of(connection, [row.id for row in rows])
    return [stored_event(row, found[row.id]) for row in rows]


def matches_of(connection: Connection, event_ids: Sequence[str]) -> dict[str, list[Match]]:
    found: dict[str, list[Match]] = defaultdict(list)
    if event_ids:
        for row in connection.execute(_MATCHES, {"event_ids": list(event_ids)}):
            event_id, pipeline, trigger, outcome, reason, run_id, group = row
            found[event_id].append(Match(pipeline, trigger, Outcome(outcome), reason, run_id, group))
    return found


def stored_event(row: AnyRow, found: Sequence[Match], shown: tuple[Delivery, ...] = ()) -> StoredEvent:
    return StoredEvent(
        id=row.id,
        project=row.project,
        source=row.source,
        key=row.key,
        type=row.type,
        subject=row.subject,
        time=row.time,
        received_at=row.received_at,
        outcome=Outcome(row.outcome),
        reason=row.reason,
        replay_of=row.replay_of,
        data=None if row.data is None else json.loads(row.data),
        headers=row.headers or {},
        hops=row.hops,
        run_ids=tuple(dict.fromkeys(match.run_id for match in found if match.run_id)),
        matches=tuple(found),
        deliveries=shown,
    )


def select_events() -> Select[Any]:
    """Return a query whose rows `with_matches` and `stored_event` take."""
    return select(*_COLUMNS)


def narrowed(query: Select[Any], filters: EventFilters) -> Select[Any]:
    """Return the query with the conditions that the filters make."""
    for column, value in ((events.c.project, filters.project), (events.c.source, filters.source)):
        if value is not None:
            query = query.where(column == value)
    if filters.outcome is not None:
        query = _with_outcome(query, filters.outcome)
    if filters.pipeline is not None or filters.trigger is not None:
        query = query.where(_taken_by(filters.pipeline, filters.trigger))
    if filters.since is not None:
        query = query.where(events.c.received_at >= filters.since)
    if filters.until is not None:
        query = query.where(events.c.received_at < filters.until)
    return query


def _with_outcome(query: Select[Any], outcome: Outcome) -> Select[Any]:
    query = query.where(events.c.outcome == outcome.value)
    if outcome is not Outcome.RAN:
        # Spelled out, or the planner cannot know that the partial index holds all of them.
        query = query.where(events.c.outcome != literal_column("'ran'"))
    return query


def _taken_by(pipeline: str | None, trigger: str | None) -> Any:
    conditions = [matches.c.event_id == events.c.id]
    if pipeline is not None:
        conditions.append(matches.c.pipeline == pipeline)
    if trigger is not None:
        conditions.append(matches.c.trigger == trigger)
    return exists().where(and_(*conditions))
