"""Claims: who may execute a run, until when, and what happens when the engine is silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, insert, select, update

from service.store import limits, pins
from service.store.database import Transaction
from service.store.run_rows import RUN_COLUMNS, blocks_of, run_of
from service.store.statements import AnyRow
from service.store.tables import block_runs, events, runs
from service.store.values import BlockRun, BlockState, ClaimedRun, Pin, Run, RunState, original_key

MAX_PASSED_OVER = 5000  # runs parked or failed within one claim; the next claim goes on
PinRun = Callable[[Run], Pin | str]

_RUN_IDS: BindParameter[str] = bindparam("run_ids", expanding=True)
_CANDIDATES = select(*RUN_COLUMNS, runs.c.limits).limit(bindparam("most"))
_IN_PROJECTS = runs.c.project.in_(bindparam("projects", expanding=True))
_DUE = (
    select(runs.c.id)
    .where(runs.c.state == "waiting", runs.c.available_at <= bindparam("now"))
    .order_by(runs.c.available_at)
    .limit(500)
    .with_for_update(skip_locked=True)
)
_QUEUE_DUE = update(runs).where(runs.c.id.in_(_RUN_IDS)).values(state=RunState.QUEUED, available_at=None)
_QUEUED = (
    _CANDIDATES.where(runs.c.state == "queued", _IN_PROJECTS)
    .order_by(runs.c.rank, runs.c.id)
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(
        state=RunState.RUNNING,
        claim=runs.c.claim + 1,
        engine_id=bindparam("engine"),
        lease_until=bindparam("lease"),
        started_at=func.coalesce(runs.c.started_at, bindparam("now", type_=runs.c.started_at.type)),
        pin=bindparam("pinned"),
        available_at=None,
    )
)
_FAIL = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(
        state=RunState.FAILED, error=bindparam("sentence"), finished_at=bindparam("now"), available_at=None
    )
)
# Locked in the order of ids, as reports do, or both could wait for each other.
_CLAIMED_BY = (
    select(runs.c.id, runs.c.claim, runs.c.cancel_requested)
    .where(runs.c.id.in_(_RUN_IDS), runs.c.engine_id == bindparam("engine"), runs.c.state == RunState.RUNNING)
    .order_by(runs.c.id)
    .with_for_update()
)
_RENEW = update(runs).where(runs.c.id.in_(_RUN_IDS)).values(lease_until=bindparam("lease"))
_LAPSED = (
    select(runs.c.id, runs.c.cancel_requested)
    .where(runs.c.state == "running", runs.c.lease_until < bindparam("now"))
    .order_by(runs.c.id)
    .limit(500)
    .with_for_update(skip_locked=True)
)
_GIVE_BACK = (
    update(runs)
    .where(runs.c.id.in_(_RUN_IDS))
    .values(state=RunState.QUEUED, engine_id=None, lease_until=None)
)
_INTERRUPT = (
    update(block_runs)
    .where(block_runs.c.run_id.in_(_RUN_IDS), block_runs.c.state == BlockState.RUNNING)
    # The try that was cut off is not counted.
    .values(state=BlockState.QUEUED, attempt=block_runs.c.attempt - 1, started_at=None)
)
_CANCEL = (
    update(runs)
    .where(runs.c.id.in_(_RUN_IDS))
    .values(
        state=RunState.CANCELLED,
        finished_at=bindparam("now"),
        engine_id=None,
        lease_until=None,
        available_at=None,
        blocked_by=None,
    )
)
_CANCEL_BLOCKS = (
    update(block_runs)
    .where(
        block_runs.c.run_id.in_(_RUN_IDS),
        block_runs.c.state.in_([BlockState.QUEUED, BlockState.RUNNING, BlockState.WAITING]),
    )
    .values(state=BlockState.CANCELLED, finished_at=bindparam("now"), retry_at=None)
)
_INSERT_BLOCKS = insert(block_runs)
_EVENTS = select(
    events.c.id,
    events.c.key,
    events.c.replay_of,
    events.c.source,
    events.c.type,
    events.c.subject,
    events.c.time,
    events.c.data,
    events.c.headers,
).where(events.c.id.in_(bindparam("event_ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Renewed:
    """What the store says about an engine's claims: those in neither set are lost."""

    held: frozenset[str]
    cancel: frozenset[str]  # a part of `held`: somebody asked for their end


@dataclass(frozen=True, slots=True)
class _Lease:
    engine_id: str
    until: datetime
    now: datetime


def claim(
    tx: Transaction,
    *,
    engine_id: str,
    slots: int,
    lease_seconds: float,
    projects: Sequence[str],
    pin: PinRun,
    only: Sequence[str] | None = None,
) -> list[ClaimedRun]:
    """Take up to `slots` runs by priority and age; those that waited and are due stand in the queue again.

    `pin` is asked for runs that were never claimed before; a sentence in its place fails the run with it.
    `only` restricts the claim to these runs.
    """
    lease = _Lease(engine_id, tx.now + timedelta(seconds=lease_seconds), tx.now)
    _queue_due(tx)
    claimed: list[ClaimedRun] = []
    passed_over = 0
    lock: limits.Lock = limits.lock
    while len(claimed) < slots and passed_over < MAX_PASSED_OVER:
        free = slots - len(claimed)
        most = free if not passed_over else max(free, 200)
        rows = _candidates(tx, projects, only=only, most=most)
        try:
            admitted = _admitted(tx, rows, free, lock)
        except limits.Busy:
            tx.notify("queued")  # the next claim goes on from here
            break
        lock = limits.try_lock  # out of the order of keys by now: waiting could be in a circle
        taken = _take(tx, admitted, lease, pin)
        claimed += taken
        passed_over += len(rows) - len(taken)
        if len(rows) < most:
            break
    return claimed


def renew(
    tx: Transaction, *, engine_id: str, claims: Sequence[tuple[str, int]], lease_seconds: float
) -> Renewed:
    """Prolong the leases of this engine's claims and tell which of them still hold."""
    wanted = dict(claims)
    rows = tx.connection.execute(_CLAIMED_BY, {"run_ids": sorted(wanted), "engine": engine_id}).all()
    held = [row for row in rows if row.claim == wanted[row.id]]
    if held:
        lease = tx.now + timedelta(seconds=lease_seconds)
        tx.connection.execute(_RENEW, {"run_ids": [row.id for row in held], "lease": lease})
    return Renewed(
        frozenset(row.id for row in held), frozenset(row.id for row in held if row.cancel_requested)
    )


def rescue(tx: Transaction) -> list[str]:
    """Give back the runs whose lease lapsed, and return their ids. Blocks that were running lose no try."""
    rows = tx.connection.execute(_LAPSED, {"now": tx.now}).all()
    orphans = [row.id for row in rows if not row.cancel_requested]
    if orphans:
        tx.connection.execute(_GIVE_BACK, {"run_ids": orphans})
        tx.connection.execute(_INTERRUPT, {"run_ids": orphans})
        limits.let_go(tx, orphans)
        tx.notify("queued")
    end_cancelled(tx, [row.id for row in rows if row.cancel_requested])
    limits.sweep(tx)
    return orphans


def end_cancelled(tx: Transaction, run_ids: Sequence[str]) -> None:
    """Make runs that nobody executes cancelled, with all their open blocks."""
    if not run_ids:
        return
    values = {"run_ids": list(run_ids), "now": tx.now}
    tx.connection.execute(_CANCEL, values)
    tx.connection.execute(_CANCEL_BLOCKS, values)
    limits.leave(tx, run_ids)
    for run_id in run_ids:
        tx.notify(f"run:{run_id}")


def _queue_due(tx: Transaction) -> None:
    """Put the runs back into the queue whose time has come.

    Their place there is that of their priority and their age, so that a retry of long ago waits for none that
    came later, and one of low priority not less than others of its kind.
    """
    due = [row.id for row in tx.connection.execute(_DUE, {"now": tx.now})]
    if due:
        tx.connection.execute(_QUEUE_DUE, {"run_ids": due})
        limits.let_go(tx, due)


def _candidates(
    tx: Transaction, projects: Sequence[str], *, only: Sequence[str] | None, most: int
) -> Sequence[AnyRow]:
    query = _QUEUED if only is None else _QUEUED.where(runs.c.id.in_(sorted(only)))
    return tx.connection.execute(query, {"projects": list(projects), "most": most}).all()


def _admitted(tx: Transaction, rows: Sequence[AnyRow], free: int, lock: limits.Lock) -> list[AnyRow]:
    if not any(row.limits for row in rows):
        return list(rows[:free])
    admitted = limits.admit(tx, [row.id for row in rows], most=free, lock=lock)
    return [row for row in rows if row.id in admitted]


def _take(tx: Transaction, rows: Sequence[AnyRow], lease: _Lease, pin: PinRun) -> list[ClaimedRun]:
    stored = pins.load(tx, [row.pin for row in rows if row.pin])
    taken: list[tuple[Run, Pin]] = []
    for row in rows:
        found = _pin_of(run_of(row), stored, pin)
        if isinstance(found, str):
            _fail(tx, row.id, found)
        else:
            taken.append((run_of(row), found))
    if not taken:
        return []
    pins.keep(tx, [found for run, found in taken if run.pin is None])
    tx.connection.execute(
        _TAKE,
        [
            {"run_id": run.id, "engine": lease.engine_id, "lease": lease.until, "now": lease.now,
             "pinned": found.hash}
            for run, found in taken
        ],
    )  # fmt: skip
    blocks = _blocks(tx, taken)
    happened = _events(tx, [run.event_id for run, _ in taken if run.event_id])
    return [
        ClaimedRun(
            replace(
                run,
                state=RunState.RUNNING,
                claim=run.claim + 1,
                pin=found.hash,
                available_at=None,
                started_at=run.started_at or lease.now,
                blocks=tuple(blocks[run.id]),
            ),
            found,
            happened.get(run.event_id) if run.event_id else None,
        )
        for run, found in taken
    ]


def _pin_of(run: Run, stored: Mapping[str, Pin], pin: PinRun) -> Pin | str:
    if run.pin is None:
        return pin(run)
    return stored.get(run.pin) or (
        f"the sources that run {run.id} began with are not stored any more; start a new run"
    )


def _fail(tx: Transaction, run_id: str, sentence: str) -> None:
    tx.connection.execute(_FAIL, {"run_id": run_id, "sentence": sentence, "now": tx.now})
    limits.leave(tx, [run_id])
    tx.notify(f"run:{run_id}")


def _blocks(tx: Transaction, taken: Sequence[tuple[Run, Pin]]) -> dict[str, list[BlockRun]]:
    """Return the block runs of each run; a run that was never claimed gets its rows now."""
    known = blocks_of(tx.connection, [run.id for run, _ in taken if run.pin is not None])
    made = {
        run.id: [
            BlockRun(name, kind, BlockState.QUEUED)
            for name, kind in pin.blocks
            if not run.selection or name in run.selection
        ]
        for run, pin in taken
        if run.pin is None
    }
    rows = [_block_row(run_id, position, block)
            for run_id, blocks in made.items() for position, block in enumerate(blocks)]  # fmt: skip
    if rows:
        tx.connection.execute(_INSERT_BLOCKS, rows)
    return {run.id: made.get(run.id) or known.get(run.id, []) for run, _ in taken}


def _block_row(run_id: str, position: int, block: BlockRun) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "name": block.name,
        "position": position,
        "type": block.type,
        "state": block.state.value,
        "attempt": 0,
        "deaths": 0,
        "volatile": False,
    }


def _events(tx: Transaction, event_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    if not event_ids:
        return {}
    rows = tx.connection.execute(_EVENTS, {"event_ids": sorted(set(event_ids))})
    return {row.id: _template_value(row) for row in rows}


def _template_value(row: AnyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "key": original_key(row.key, row.replay_of),
        "source": row.source,
        "type": row.type,
        "subject": row.subject,
        "time": row.time.isoformat().replace("+00:00", "Z"),
        "data": None if row.data is None else json.loads(row.data),
        "headers": row.headers or {},
    }
