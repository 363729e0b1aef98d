"""Ticks of schedules: each once per trigger and moment, as run or as missed. The unique key is the judge."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from service.store.database import Transaction
from service.store.statements import insert_if_absent
from service.store.tables import ticks, triggers

MISSED = "missed"  # the outcome of a tick that nobody ran; all other outcomes are its event's

_INSERT_TICK = insert_if_absent(ticks, ticks.c.tick_at)
_INSERT_TRIGGER = insert_if_absent(triggers)
_OF_TRIGGER = (
    ticks.c.project == bindparam("project"),
    ticks.c.pipeline == bindparam("pipeline"),
    ticks.c.trigger == bindparam("trigger"),
)
_LAST = select(func.max(ticks.c.tick_at)).where(*_OF_TRIGGER)
_FIRST_SEEN = select(triggers.c.created_at).where(
    triggers.c.project == bindparam("project"),
    triggers.c.pipeline == bindparam("pipeline"),
    triggers.c.name == bindparam("trigger"),
)


@dataclass(frozen=True, slots=True)
class NewTick:
    """What became of one due moment."""

    project: str
    pipeline: str
    trigger: str
    tick_at: datetime
    outcome: str
    reason: str | None = None
    event_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTick:
    tick_at: datetime
    outcome: str
    reason: str | None
    event_id: str | None
    run_id: str | None
    recorded_at: datetime


def record(tx: Transaction, new: Sequence[NewTick]) -> frozenset[datetime]:
    """Record the ticks of one trigger that nobody has recorded; return the moments of those.

    On Postgres it waits for another engine that is recording the same ones.
    """
    if not new:
        return frozenset()
    rows = [{**asdict(tick), "recorded_at": tx.now} for tick in new]
    made = tx.connection.execute(_INSERT_TICK[tx.database.dialect], rows)
    return frozenset(made.scalars())


def last_tick(connection: Connection, project: str, pipeline: str, trigger: str) -> datetime | None:
    """Return the newest moment on record, whatever became of it."""
    place = {"project": project, "pipeline": pipeline, "trigger": trigger}
    found: datetime | None = connection.execute(_LAST, place).scalar_one()
    return found


def first_seen(tx: Transaction, project: str, pipeline: str, trigger: str, *, now: datetime) -> datetime:
    """Return when any engine first saw the trigger: `now`, if none did before."""
    row = {
        "project": project,
        "pipeline": pipeline,
        "name": trigger,
        "token": secrets.token_urlsafe(32),
        "created_at": now,
    }
    tx.connection.execute(_INSERT_TRIGGER[tx.database.dialect], row)
    place = {"project": project, "pipeline": pipeline, "trigger": trigger}
    seen: datetime = tx.connection.execute(_FIRST_SEEN, place).scalar_one()
    return seen


def listing(
    connection: Connection, project: str, pipeline: str, trigger: str, *, limit: int = 50
) -> list[StoredTick]:
    """Return the newest ticks of a trigger, newest first."""
    query = (
        select(
            ticks.c.tick_at,
            ticks.c.outcome,
            ticks.c.reason,
            ticks.c.event_id,
            ticks.c.run_id,
            ticks.c.recorded_at,
        )
        .where(*_OF_TRIGGER)
        .order_by(ticks.c.tick_at.desc())
        .limit(limit)
    )
    place = {"project": project, "pipeline": pipeline, "trigger": trigger}
    return [StoredTick(*row) for row in connection.execute(query, place)]
