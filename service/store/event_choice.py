"""The stored events that a trigger has had, or may want."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, exists, or_

from service.store.event_reading import EventFilters, narrowed, select_events, with_matches
from service.store.tables import events, matches
from service.store.values import Outcome, StoredEvent


@dataclass(frozen=True, slots=True)
class Chosen:
    """Events of one trigger. `outcome` is what the trigger made of them; `unmatched`: it never had them."""

    project: str
    pipeline: str
    trigger: str
    types: Collection[str] = ()  # of events that it may want, also where it never had them
    outcome: Outcome | None = None
    since: datetime | None = None  # received at or after
    until: datetime | None = None  # received before


def concerning(connection: Connection, chosen: Chosen, *, limit: int) -> list[tuple[StoredEvent, bool]]:
    """Return the first events but replays, oldest first, each with whether its payload has expired."""
    is_of_trigger = and_(
        matches.c.event_id == events.c.id,
        matches.c.project == chosen.project,
        matches.c.pipeline == chosen.pipeline,
        matches.c.trigger == chosen.trigger,
    )
    had = exists().where(is_of_trigger)
    filters = EventFilters(project=chosen.project, since=chosen.since, until=chosen.until)
    query = (
        narrowed(select_events().add_columns(events.c.payload_expired), filters)
        .where(events.c.replay_of.is_(None))
        .order_by(events.c.id)
        .limit(limit)
    )
    match chosen.outcome:
        case None:
            query = query.where(or_(had, events.c.type.in_(chosen.types)))
        case Outcome.UNMATCHED:
            query = query.where(~had, events.c.type.in_(chosen.types))
        case outcome:
            query = query.where(exists().where(is_of_trigger, matches.c.outcome == outcome.value))
    rows = connection.execute(query).all()
    stored = with_matches(connection, rows)
    return [(event, row.payload_expired) for event, row in zip(stored, rows, strict=True)]
