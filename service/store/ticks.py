"""Ticks of schedules: each due moment recorded once, whoever of several engines is first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from service.store.database import Transaction
from service.store.statements import insert_if_absent
from service.store.tables import ticks

_INSERT = insert_if_absent(ticks, ticks.c.tick_at)


@dataclass(frozen=True, slots=True)
class Tick:
    """One due moment: `outcome` is that of its event, or "missed" with the policy as the reason."""

    project: str
    pipeline: str
    trigger: str
    tick_at: datetime
    outcome: str
    reason: str | None = None
    event_id: str | None = None
    run_id: str | None = None


def record_tick(tx: Transaction, tick: Tick) -> bool:
    """Record a tick; False when somebody was first, and nothing of it may be done again.

    Call it before anything else that belongs to the tick, in the same transaction: on Postgres it waits for
    another engine that is at the same tick.
    """
    row = {
        "project": tick.project,
        "pipeline": tick.pipeline,
        "trigger": tick.trigger,
        "tick_at": tick.tick_at,
        "outcome": tick.outcome,
        "reason": tick.reason,
        "event_id": tick.event_id,
        "run_id": tick.run_id,
        "recorded_at": tx.now,
    }
    return tx.connection.execute(_INSERT[tx.database.dialect], row).one_or_none() is not None


def last_tick(connection: Connection, project: str, pipeline: str, trigger: str) -> datetime | None:
    """Return the latest moment that was recorded for the trigger, ran or missed."""
    found = listing(connection, project, pipeline, trigger, limit=1)
    return found[0].tick_at if found else None


def listing(
    connection: Connection,
    project: str,
    pipeline: str,
    trigger: str,
    *,
    limit: int = 50,
    before: datetime | None = None,
) -> list[Tick]:
    """Return the ticks of a trigger, newest first."""
    query = (
        select(
            ticks.c.project,
            ticks.c.pipeline,
            ticks.c.trigger,
            ticks.c.tick_at,
            ticks.c.outcome,
            ticks.c.reason,
            ticks.c.event_id,
            ticks.c.run_id,
        )
        .where(ticks.c.project == project, ticks.c.pipeline == pipeline, ticks.c.trigger == trigger)
        .order_by(ticks.c.tick_at.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ticks.c.tick_at < before)
    return [Tick(*row) for row in connection.execute(query)]
