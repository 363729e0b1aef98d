"""Ticks of schedules: each due moment recorded once, whoever of several engines is first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from service.store.bulk import BulkInsert
from service.store.columns import to_micros
from service.store.database import Transaction
from service.store.tables import matches, runs, ticks, triggers
from service.store.triggers import TriggerId
from service.store.values import Outcome, RunState

_insert = BulkInsert(ticks, tail='ON CONFLICT DO NOTHING RETURNING project, pipeline, "trigger", tick_at')
_LAST = (
    select(func.max(ticks.c.tick_at))
    .where(
        ticks.c.project == triggers.c.project,
        ticks.c.pipeline == triggers.c.pipeline,
        ticks.c.trigger == triggers.c.name,
    )
    .scalar_subquery()
)
_STANDINGS = select(
    triggers.c.project, triggers.c.pipeline, triggers.c.name, triggers.c.created_at, _LAST
).where(
    triggers.c.project.in_(bindparam("projects", expanding=True)),
    triggers.c.name.in_(bindparam("names", expanding=True)),
)
_THIS = (
    (ticks.c.project == bindparam("in_project"))
    & (ticks.c.pipeline == bindparam("in_pipeline"))
    & (ticks.c.trigger == bindparam("named"))
    & (ticks.c.tick_at == bindparam("at"))
)
_TAKE_BACK = delete(ticks).where(_THIS)
_STARTED_NONE = (
    update(ticks).where(_THIS).values(outcome=bindparam("new_outcome"), reason=bindparam("why"), run_id=None)
)
_BECAME = (
    select(matches.c.outcome, runs.c.state)
    .select_from(matches.outerjoin(runs, runs.c.id == matches.c.run_id))
    .where(
        matches.c.event_id == bindparam("event_id"),
        matches.c.pipeline == bindparam("in_pipeline"),
        matches.c.trigger == bindparam("named"),
    )
)


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


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a schedule stands: when any engine first saw it, and its latest recorded moment."""

    first_seen: datetime
    last_tick: datetime | None


def record_ticks(tx: Transaction, new: Sequence[Tick]) -> list[bool]:
    """Record ticks; False in the place of one that somebody was first at: nothing of it may be done again.

    Call it before anything else that belongs to the ticks, in the same transaction: on Postgres it waits for
    another engine that is at the same ones. Ticks must come in the order of their names and moments.
    """
    rows = [{**_row(tick), "recorded_at": tx.now} for tick in new]
    made = {tuple(row) for row in _insert(tx.connection, rows)}
    return [(tick.project, tick.pipeline, tick.trigger, to_micros(tick.tick_at)) in made for tick in new]


def record_tick(tx: Transaction, tick: Tick) -> bool:
    """Record one tick; False when somebody was first."""
    return record_ticks(tx, [tick])[0]


def take_back(tx: Transaction, tick: Tick) -> None:
    """Undo the record of a tick in its own transaction: its event turned out to be another engine's."""
    names = _names(tick.project, tick.pipeline, tick.trigger)
    tx.connection.execute(_TAKE_BACK, {**names, "at": tick.tick_at})


def standings(connection: Connection, wanted: Collection[TriggerId]) -> dict[TriggerId, Standing]:
    """Return where those of the wanted schedules stand that were ever seen."""
    values = {
        "projects": sorted({project for project, _, _ in wanted}),
        "names": sorted({name for _, _, name in wanted}),
    }
    return {
        (project, pipeline, name): Standing(first_seen, last)
        for project, pipeline, name, first_seen, last in connection.execute(_STANDINGS, values)
        if (project, pipeline, name) in wanted
    }


def became_of(connection: Connection, tick: Tick) -> tuple[Outcome, RunState | None] | None:
    """Return what became of a tick's event by now, and the state of its run; None when both are pruned."""
    names = {"in_pipeline": tick.pipeline, "named": tick.trigger}
    row = connection.execute(_BECAME, {**names, "event_id": tick.event_id}).one_or_none()
    return None if row is None else (Outcome(row.outcome), None if row.state is None else RunState(row.state))


def correct_tick(tx: Transaction, tick: Tick, outcome: Outcome, reason: str | None) -> None:
    """Say that a tick started no run after all: a limit had no room for it."""
    names = _names(tick.project, tick.pipeline, tick.trigger)
    values = {"at": tick.tick_at, "new_outcome": outcome.value, "why": reason}
    tx.connection.execute(_STARTED_NONE, {**names, **values})


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


def _row(tick: Tick) -> dict[str, Any]:
    return {
        "project": tick.project,
        "pipeline": tick.pipeline,
        "trigger": tick.trigger,
        "tick_at": tick.tick_at,
        "outcome": tick.outcome,
        "reason": tick.reason,
        "event_id": tick.event_id,
        "run_id": tick.run_id,
    }


def _names(project: str, pipeline: str, trigger: str) -> dict[str, Any]:
    return {"in_project": project, "in_pipeline": pipeline, "named": trigger}
