"""Ends of runs of which nobody was told yet. Each is told of once, in the transaction that marks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Integer, bindparam, select, text, update

from service.store.database import Transaction
from service.store.run_rows import RUN_COLUMNS, run_of
from service.store.tables import runs
from service.store.values import Run, RunState

IS_DUE = text("finished_at IS NOT NULL AND announced = false")  # as the partial index has it
DUE = (
    select(runs.c.id, runs.c.project, runs.c.pipeline, runs.c.state, runs.c.attempt)
    # Not the bare column: SQLite would go through all runs of the project by its index.
    .where(IS_DUE, runs.c.project.concat("").in_(bindparam("projects", expanding=True)))
    .order_by(runs.c.id)
    .limit(bindparam("most", type_=Integer()))
)
_IDS = runs.c.id.in_(bindparam("ids", expanding=True))
_WHOLE = select(*RUN_COLUMNS).where(_IDS, IS_DUE)
_LOCK = (
    select(runs.c.id, runs.c.attempt, runs.c.state)
    .where(_IDS, IS_DUE)
    .order_by(runs.c.id)
    .with_for_update(skip_locked=True)
)
_MARK = update(runs).where(_IDS).values(announced=True)


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt of a run ended."""

    run_id: str
    project: str
    pipeline: str
    state: RunState
    attempt: int


def due(connection: Connection, projects: Sequence[str], *, limit: int) -> list[End]:
    """Return ends that were not announced, of the oldest runs first."""
    rows = connection.execute(DUE, {"projects": list(projects), "most": limit})
    return [End(row.id, row.project, row.pipeline, RunState(row.state), row.attempt) for row in rows]


def whole(connection: Connection, ends: Sequence[End]) -> Mapping[str, Run]:
    """Return the runs by their ids, without their blocks; not those that were queued again meanwhile."""
    if not ends:
        return {}
    rows = connection.execute(_WHOLE, {"ids": [end.run_id for end in ends]})
    return {run.id: run for run in map(run_of, rows)}


def mark(tx: Transaction, ends: Sequence[End]) -> list[End]:
    """Mark as announced those that are due still, and return them.

    A run that another engine is at, or that was queued again meanwhile, is left out.
    """
    found = {
        row.id: (row.attempt, row.state)
        for row in tx.connection.execute(_LOCK, {"ids": [end.run_id for end in ends]})
    }
    marked = [end for end in ends if found.get(end.run_id) == (end.attempt, end.state)]
    if marked:
        tx.connection.execute(_MARK, {"ids": [end.run_id for end in marked]})
    return marked
