"""Runs: put into the queue, looked at, cancelled, tried again. Claims and reports have files of their own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import IdempotencyConflict, NotFound, WrongState
from service.store.admitting import Admission
from service.store.claims import Renewed, claim, end_cancelled, renew, rescue
from service.store.columns import dump_json
from service.store.database import Transaction
from service.store.reports import apply
from service.store.run_rows import (
    LIMIT_ROWS,
    RUN_COLUMNS,
    blocks_of,
    declared_blocks_of,
    failed_children,
    insert_runs,
    run_of,
)
from service.store.statements import AnyRow
from service.store.tables import awaited_runs, block_runs, runs
from service.store.values import BlockState, NewRun, Run, RunState

__all__ = [
    "Renewed",
    "RunFilters",
    "apply",
    "cancel",
    "claim",
    "counts",
    "enqueue",
    "get",
    "glance",
    "listing",
    "renew",
    "rescue",
    "retry",
    "with_key",
]

SHOWN_FAILURES = 5  # children that failed, where the others are only counted

_RUN = select(*RUN_COLUMNS).where(runs.c.id == bindparam("run_id"))
_BY_KEY = select(*RUN_COLUMNS).where(runs.c.idempotency == bindparam("idempotency"))
_LOCKED = select(runs.c.state, runs.c.limits, runs.c.rank).where(
    runs.c.id == bindparam("run_id")
).with_for_update()  # fmt: skip
_COUNTS = select(runs.c.state, func.count()).group_by(runs.c.state)
_ASK_CANCEL = update(runs).where(runs.c.id == bindparam("run_id")).values(cancel_requested=True)
_QUEUE_AGAIN = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(
        state=RunState.QUEUED,
        attempt=runs.c.attempt + 1,
        cancel_requested=False,
        checkpoints_deleted=False,
        error=None,
        started_at=None,
        finished_at=None,
        announced=False,
    )
)
# What failed for them once is to be made anew.
_AWAIT_NOTHING = delete(awaited_runs).where(awaited_runs.c.run_id == bindparam("run_id"))
_RESET_BLOCKS = (
    update(block_runs)
    .where(block_runs.c.run_id == bindparam("the_run"), block_runs.c.state != BlockState.SUCCEEDED)
    .values(
        state=BlockState.QUEUED,
        attempt=0,
        deaths=0,
        started_at=None,
        finished_at=None,
        rows=None,
        error=None,
        reason=None,
        killed=False,
        retry_at=None,
        first_started_at=None,
        checkpoint=None,
    )
)


@dataclass(frozen=True, slots=True)
class RunFilters:
    """What a list of runs is narrowed to; None asks for all."""

    project: str | None = None
    pipeline: str | None = None
    trigger: str | None = None
    event_id: str | None = None
    parent_run_id: str | None = None
    states: tuple[RunState, ...] = ()
    since: datetime | None = None  # created at or after
    until: datetime | None = None  # created before


def enqueue(tx: Transaction, new: NewRun, idempotency_key: str | None = None) -> tuple[Run, bool]:
    """Put a run into the queue and notify "queued"; for a key that was used before return its run, and False.

    Raises IdempotencyConflict when the key came with another request then.
    """
    digest = None if idempotency_key is None else _digest(new.project, idempotency_key)
    admission = Admission(tx, [], [new])
    new = admission.run(new)
    try:
        with tx.connection.begin_nested():
            insert_runs(tx.connection, [(new, tx.now)], idempotency=digest)
    except IntegrityError:
        earlier = tx.connection.execute(_BY_KEY, {"idempotency": digest}).one_or_none()
        if earlier is None or idempotency_key is None:
            raise
        return _repeated(tx.connection, earlier, new, idempotency_key), False
    admission.finish()
    tx.notify("queued")
    return _existing(tx.connection, new.id), True


def with_key(connection: Connection, project: str, idempotency_key: str) -> Run | None:
    """Return the run that was put into the queue under this key."""
    row = connection.execute(_BY_KEY, {"idempotency": _digest(project, idempotency_key)}).one_or_none()
    return None if row is None else run_of(row, blocks_of(connection, [row.id])[row.id])


def get(connection: Connection, run_id: str) -> Run | None:
    """Return a run with its blocks in topological order, or None."""
    row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
    return None if row is None else run_of(row, blocks_of(connection, [run_id])[run_id])


def glance(connection: Connection, run_id: str) -> Run | None:
    """Return a run as `get` does, but of children only their counts and the first that failed; or None."""
    row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
    if row is None:
        return None
    blocks = declared_blocks_of(connection, [run_id])[run_id]
    failed = any(BlockState.FAILED in block.children for block in blocks)
    return run_of(row, [*blocks, *(failed_children(connection, run_id, SHOWN_FAILURES) if failed else ())])


def listing(
    connection: Connection, filters: RunFilters | None = None, *, limit: int = 50, after_id: str | None = None
) -> list[Run]:
    """Return runs newest first, with their blocks, children only counted.

    `after_id` is the last id of the page before.
    """
    wanted = filters or RunFilters()
    query = select(*RUN_COLUMNS).order_by(runs.c.id.desc()).limit(limit)
    equal = {
        runs.c.project: wanted.project,
        runs.c.pipeline: wanted.pipeline,
        runs.c.trigger: wanted.trigger,
        runs.c.event_id: wanted.event_id,
        runs.c.parent_run_id: wanted.parent_run_id,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if wanted.states:
        query = query.where(runs.c.state.in_(wanted.states))
    if wanted.since is not None:
        query = query.where(runs.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(runs.c.created_at < wanted.until)
    if after_id is not None:
        query = query.where(runs.c.id < after_id)
    rows = connection.execute(query).all()
    blocks = declared_blocks_of(connection, [row.id for row in rows])
    return [run_of(row, blocks[row.id]) for row in rows]


def counts(connection: Connection, project: str | None = None) -> dict[RunState, int]:
    """Return how many runs are in each state, zeros included."""
    query = _COUNTS if project is None else _COUNTS.where(runs.c.project == project)
    found = {RunState(state): number for state, number in connection.execute(query)}
    return {state: found.get(state, 0) for state in RunState}


def cancel(tx: Transaction, run_id: str) -> Run:
    """End a run that nobody executes at once; ask the engine to end one that is running ("cancel:<id>").

    Raises NotFound, or WrongState for a run that succeeded or failed. Idempotent.
    """
    state = RunState(_lock(tx, run_id).state)
    if state is RunState.RUNNING:
        tx.connection.execute(_ASK_CANCEL, {"run_id": run_id})
        tx.notify(f"cancel:{run_id}")
    elif not state.is_final:
        end_cancelled(tx, [run_id])
    elif state is not RunState.CANCELLED:
        raise WrongState("run", run_id, state, "cancel")
    return _existing(tx.connection, run_id)


def retry(tx: Transaction, run_id: str) -> Run:
    """Queue a failed or cancelled run again: blocks that succeeded are kept, all others start anew.

    Raises NotFound, or WrongState for a run that succeeded or is not over yet.
    """
    row = _lock(tx, run_id)
    state = RunState(row.state)
    if state not in (RunState.FAILED, RunState.CANCELLED):
        raise WrongState("run", run_id, state, "retry")
    tx.connection.execute(_QUEUE_AGAIN, {"run_id": run_id})
    tx.connection.execute(_RESET_BLOCKS, {"the_run": run_id})
    tx.connection.execute(_AWAIT_NOTHING, {"run_id": run_id})
    if row.limits:
        LIMIT_ROWS(
            tx.connection,
            [
                {"key": key, "run_id": run_id, "maximum": maximum, "rank": row.rank, "held": False}
                for key, maximum in row.limits
            ],
        )
    tx.notify("queued")
    return _existing(tx.connection, run_id)


def _lock(tx: Transaction, run_id: str) -> AnyRow:
    row = tx.connection.execute(_LOCKED, {"run_id": run_id}).one_or_none()
    if row is None:
        raise NotFound("run", run_id)
    return row


def _existing(connection: Connection, run_id: str) -> Run:
    run = get(connection, run_id)
    if run is None:
        raise NotFound("run", run_id)
    return run


def _digest(project: str, key: str) -> str:
    return hashlib.sha256(dump_json([project, key]).encode()).hexdigest()


def _repeated(connection: Connection, row: AnyRow, new: NewRun, key: str) -> Run:
    run = run_of(row, blocks_of(connection, [row.id])[row.id])
    # Compared as stored; the time of execution is left out, since it may be the clock's.
    is_same = (run.pipeline, run.selection, dump_json(run.variables)) == (
        new.pipeline,
        new.selection,
        dump_json(dict(new.variables)),
    )
    if not is_same:
        raise IdempotencyConflict(key, run.id)
    return run
