"""Runs as rows and as values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from service.store.bulk import BulkInsert, Together
from service.store.statements import AnyRow
from service.store.tables import block_runs, run_limits, runs
from service.store.values import BlockRun, BlockState, NewRun, Run, RunState

LIMIT_ROWS = BulkInsert(run_limits, "key", "run_id", "maximum", "rank", "held")
_run_rows = BulkInsert(
    runs,
    *(
        column.name
        for column in runs.columns
        # What a queued run has none of.
        if column.name
        not in {
            "pin",
            "engine_id",
            "lease_until",
            "blocked_by",
            "started_at",
            "finished_at",
            "error",
        }
    ),
)

RUN_COLUMNS = (
    runs.c.id,
    runs.c.project,
    runs.c.pipeline,
    runs.c.state,
    runs.c.execution_date,
    runs.c.created_at,
    runs.c.variables,
    runs.c.trigger,
    runs.c.event_id,
    runs.c.interval_start,
    runs.c.interval_end,
    runs.c.timezone,
    runs.c.selection,
    runs.c.attempt,
    runs.c.claim,
    runs.c.pin,
    runs.c.available_at,
    runs.c.started_at,
    runs.c.finished_at,
    runs.c.cancel_requested,
    runs.c.error,
    runs.c.hops,
    runs.c.backfill_id,
    runs.c.options,
    runs.c.parent_run_id,
    runs.c.blocked_by,
)

_BLOCKS = (
    select(
        block_runs.c.run_id,
        block_runs.c.name,
        block_runs.c.type,
        block_runs.c.state,
        block_runs.c.attempt,
        block_runs.c.deaths,
        block_runs.c.started_at,
        block_runs.c.finished_at,
        block_runs.c.rows,
        block_runs.c.error,
        block_runs.c.retry_at,
        block_runs.c.checkpoint,
        block_runs.c.volatile,
        block_runs.c.parent,
        block_runs.c.item,
        block_runs.c.reason,
        block_runs.c.first_started_at,
        block_runs.c.killed,
    )
    .where(block_runs.c.run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(block_runs.c.run_id, block_runs.c.position, block_runs.c.item.nulls_first())
)

_IS_CHILD = block_runs.c.parent.is_not(None)
_DECLARED_BLOCKS = _BLOCKS.where(~_IS_CHILD)
_CHILDREN = (
    select(block_runs.c.run_id, block_runs.c.parent, block_runs.c.state, func.count())
    .where(block_runs.c.run_id.in_(bindparam("run_ids", expanding=True)), _IS_CHILD)
    .group_by(block_runs.c.run_id, block_runs.c.parent, block_runs.c.state)
)
_FAILED_CHILDREN = _BLOCKS.where(_IS_CHILD, block_runs.c.state == BlockState.FAILED).limit(bindparam("most"))


def insert_runs(
    connection: Connection, new: Sequence[tuple[NewRun, datetime]], *, idempotency: str | None = None
) -> None:
    """Insert queued runs, each with the time it was made."""
    inserts = Together(connection)
    add_runs(inserts, new, idempotency=idempotency)
    inserts.send()


def add_runs(
    inserts: Together, new: Sequence[tuple[NewRun, datetime]], *, idempotency: str | None = None
) -> None:
    """Add the inserts of queued runs, each with the time it was made."""
    inserts.add(_run_rows, [_new_row(run, at, idempotency) for run, at in new])
    limits = [
        {
            "key": limit.key,
            "run_id": run.id,
            "maximum": limit.maximum,
            "rank": -run.priority,
            "held": False,
        }
        for run, _ in new
        for limit in run.limits
    ]
    inserts.add(LIMIT_ROWS, limits)


def _new_row(run: NewRun, at: datetime, idempotency: str | None) -> dict[str, Any]:
    return {
        "id": run.id,
        "project": run.project,
        "pipeline": run.pipeline,
        "trigger": run.trigger,
        "event_id": run.event_id,
        "state": (RunState.QUEUED if run.available_at is None else RunState.WAITING).value,
        "available_at": run.available_at,
        "execution_date": run.execution_date,
        "interval_start": run.interval_start,
        "interval_end": run.interval_end,
        "timezone": run.timezone,
        "variables": dict(run.variables),
        "selection": list(run.selection) or None,
        "rank": -run.priority,
        "limits": [[limit.key, limit.maximum] for limit in run.limits] or None,
        "attempt": 1,
        "claim": 0,
        "cancel_requested": False,
        "created_at": at,
        "idempotency": idempotency,
        "checkpoints_deleted": False,
        "log_seq": 0,
        "log_bytes": 0,
        "hops": run.hops,
        "backfill_id": run.backfill_id,
        "announced": False,
        "options": dict(run.options) or None,
        "parent_run_id": run.parent_run_id,
    }


def run_of(row: AnyRow, blocks: Sequence[BlockRun] = ()) -> Run:
    """Return the value of a row that has RUN_COLUMNS first, in their order."""
    (
        run_id, project, pipeline, state, execution_date, created_at, variables, trigger, event_id,
        interval_start, interval_end, timezone, selection, attempt, claim, pin, available_at, started_at,
        finished_at, cancel_requested, error, hops, backfill_id, options, parent_run_id,
        blocked_by,
    ) = row[: len(RUN_COLUMNS)]  # fmt: skip
    return Run(
        id=run_id,
        project=project,
        pipeline=pipeline,
        state=RunState(state),
        execution_date=execution_date,
        created_at=created_at,
        variables=variables,
        trigger=trigger,
        event_id=event_id,
        interval_start=interval_start,
        interval_end=interval_end,
        timezone=timezone,
        selection=tuple(selection or ()),
        attempt=attempt,
        claim=claim,
        pin=pin,
        available_at=available_at,
        started_at=started_at,
        finished_at=finished_at,
        cancel_requested=cancel_requested,
        error=error,
        hops=hops,
        backfill_id=backfill_id,
        options=options or {},
        parent_run_id=parent_run_id,
        blocked_by=blocked_by,
        blocks=tuple(blocks),
    )


def blocks_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[BlockRun]]:
    """Return the block runs of each run, in topological order, children behind the block that they are of."""
    return _found(connection, _BLOCKS, run_ids)


def declared_blocks_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[BlockRun]]:
    """Return the block runs of each run without children, which are only counted."""
    return _found(connection, _DECLARED_BLOCKS, run_ids)


def failed_children(connection: Connection, run_id: str, most: int) -> list[BlockRun]:
    """Return the first children that failed."""
    rows = connection.execute(_FAILED_CHILDREN, {"run_ids": [run_id], "most": most})
    return [_block_of(row, {}) for row in rows]


def _found(connection: Connection, query: Select[Any], run_ids: Sequence[str]) -> dict[str, list[BlockRun]]:
    found: dict[str, list[BlockRun]] = defaultdict(list)
    if not run_ids:
        return found
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for run_id, parent, state, count in connection.execute(_CHILDREN, {"run_ids": list(run_ids)}):
        counts[run_id, parent][state] = count
    for row in connection.execute(query, {"run_ids": list(run_ids)}):
        found[row.run_id].append(_block_of(row, counts.get((row.run_id, row.name), {})))
    return found


def _block_of(row: AnyRow, children: Mapping[str, int]) -> BlockRun:
    values = row._asdict()
    del values["run_id"]
    known = {"state": BlockState(row.state), "killed": bool(row.killed), "children": children}
    return BlockRun(**{**values, **known})
