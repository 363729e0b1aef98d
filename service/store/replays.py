"""Stored events as a replay needs them: with their bytes, and what was made of them last time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from service.store.event_reading import EventFilters, narrowed, select_events, with_matches
from service.store.tables import events, runs
from service.store.values import StoredEvent

_BY_ID = (
    select_events()
    .add_columns(events.c.raw, events.c.content_type, events.c.payload_expired)
    .order_by(events.c.id)
)
_VARIABLES = select(runs.c.id, runs.c.variables).where(runs.c.id.in_(bindparam("run_ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored event, and what came of the wire."""

    event: StoredEvent
    raw: bytes | None
    content_type: str | None
    has_expired: bool  # its payload


def load(connection: Connection, event_ids: Collection[str]) -> list[Kept]:
    """Return those of the events that are stored, oldest first."""
    return _kept(connection, _BY_ID.where(events.c.id.in_(event_ids))) if event_ids else []


def oldest(connection: Connection, filters: EventFilters, *, limit: int) -> list[Kept]:
    """Return the first events that fit, oldest first. Replays are left out: originals stand for them."""
    query = narrowed(_BY_ID, filters).where(events.c.replay_of.is_(None)).limit(limit)
    return _kept(connection, query)


def variables_of_runs(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Return the variables that these runs were given."""
    if not run_ids:
        return {}
    rows = connection.execute(_VARIABLES, {"run_ids": list(run_ids)})
    return {run_id: variables for run_id, variables in rows}


def _kept(connection: Connection, query: Select[Any]) -> list[Kept]:
    rows = connection.execute(query).all()
    stored = with_matches(connection, rows)
    return [
        Kept(event, None if row.raw is None else bytes(row.raw), row.content_type, row.payload_expired)
        for event, row in zip(stored, rows, strict=True)
    ]
