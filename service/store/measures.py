"""Numbers about the store as a whole, for `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from service.store import engines
from service.store.runs import counts
from service.store.tables import events, runs
from service.store.values import Outcome, RunState


@dataclass(frozen=True, slots=True)
class Measures:
    runs: Mapping[RunState, int]
    events: Mapping[Outcome, int]
    oldest_queued_at: datetime | None
    engine_beats: Mapping[str, datetime]  # last heartbeat of every engine whose row is there


def measure(connection: Connection) -> Measures:
    """Count runs by state and events by outcome, from their indexes."""
    return Measures(
        runs=counts(connection),
        events=_events_by_outcome(connection),
        oldest_queued_at=_oldest_queued(connection),
        engine_beats={engine.id: engine.beat_at for engine in engines.listing(connection)},
    )


def _events_by_outcome(connection: Connection) -> Mapping[Outcome, int]:
    # Nearly all events ran and the index holds only the others: those that ran are what is left of all.
    total = connection.execute(select(func.count()).select_from(events)).scalar_one()
    others = (
        select(events.c.outcome, func.count())
        .where(events.c.outcome != Outcome.RAN.value)
        .group_by(events.c.outcome)
    )
    counted = {outcome: count for outcome, count in connection.execute(others).all()}
    counted[Outcome.RAN.value] = total - sum(counted.values())
    return {outcome: counted.get(outcome.value, 0) for outcome in Outcome}


def _oldest_queued(connection: Connection) -> datetime | None:
    # Ids are sorted by time, so the smallest one is the oldest.
    oldest = (
        select(runs.c.created_at).where(runs.c.state == RunState.QUEUED.value).order_by(runs.c.id).limit(1)
    )
    return connection.execute(oldest).scalar_one_or_none()
