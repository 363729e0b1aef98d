"""What blocks of claimed runs ask for: runs to start, outputs of other runs, products to wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from service.errors import ClaimLost
from service.store.database import Transaction
from service.store.run_rows import RUN_COLUMNS, blocks_of, run_of
from service.store.tables import awaited_runs, block_runs, runs
from service.store.values import OPEN_STATES, BlockState, Run, RunState

LOOKED_BACK = 100  # runs among which outputs are looked for

_HELD = (
    select(*RUN_COLUMNS)
    .where(
        runs.c.id == bindparam("run_id"),
        runs.c.claim == bindparam("held_claim"),
        runs.c.state == RunState.RUNNING,
    )
    .with_for_update(read=True)  # it must not be lost before our commit
)
_ANCESTOR = select(runs.c.parent_run_id, runs.c.project, runs.c.pipeline).where(
    runs.c.id == bindparam("run_id")
)
_FINISHED = (
    select(runs.c.id, runs.c.finished_at)
    .where(
        runs.c.project == bindparam("of_project"),
        runs.c.pipeline == bindparam("of_pipeline"),
        runs.c.state == RunState.SUCCEEDED,
        runs.c.checkpoints_deleted.is_(False),
    )
    .order_by(runs.c.id.desc())
    .limit(LOOKED_BACK)
)
_LAST_END = (
    select(runs.c.id)
    .where(
        runs.c.project == bindparam("of_project"),
        runs.c.pipeline == bindparam("of_pipeline"),
        runs.c.state.not_in(OPEN_STATES),
    )
    .order_by(runs.c.id.desc())
    .limit(1)
)
_OF_CALL = (awaited_runs.c.run_id == bindparam("waiting_run")) & (awaited_runs.c.call == bindparam("by_call"))
_AWAITED = select(awaited_runs.c.awaited).where(_OF_CALL)
_FORGET = delete(awaited_runs).where(_OF_CALL)
_AWAIT = insert(awaited_runs)
_IN_THE_MAKING = (
    select(runs.c.id)
    .join(awaited_runs, awaited_runs.c.awaited == runs.c.id)
    .where(
        runs.c.project == bindparam("of_project"),
        runs.c.pipeline == bindparam("of_pipeline"),
        runs.c.state.in_(OPEN_STATES),
        awaited_runs.c.product == bindparam("of_product"),
    )
    .order_by(runs.c.id)
    .limit(1)
)
_IDS: Any = bindparam("run_ids", expanding=True)
_STATES = select(runs.c.id, runs.c.state).where(runs.c.id.in_(_IDS))
_IS_PARKED = runs.c.id.in_(_IDS) & (runs.c.state == RunState.WAITING) & runs.c.blocked_by.is_(None)
_LOCK_PARKED = select(runs.c.id).where(_IS_PARKED).order_by(runs.c.id).with_for_update()
_DUE_NOW = update(runs).where(_IS_PARKED).values(available_at=bindparam("now"))
_LOOK_NOW = (
    update(block_runs)
    .where(
        block_runs.c.run_id.in_(_IDS),
        block_runs.c.type == "global_data_product",
        block_runs.c.state == BlockState.WAITING,
    )
    .values(retry_at=bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the outputs of some blocks of a successful run are."""

    run_id: str
    finished_at: datetime
    manifests: Mapping[str, Mapping[str, Any]]  # by the name of the block


def held(tx: Transaction, run_id: str, claim: int) -> Run:
    """Return the run, which stays claimed until this transaction ends. Raises ClaimLost."""
    row = tx.connection.execute(_HELD, {"run_id": run_id, "held_claim": claim}).one_or_none()
    if row is None:
        raise ClaimLost("run", run_id)
    return run_of(row)


def lineage(connection: Connection, run_id: str, *, most: int) -> list[tuple[str, str]]:
    """Return project and pipeline of a run and of those above it, nearest first, up to `most` of them."""
    found: list[tuple[str, str]] = []
    above: str | None = run_id
    while above is not None and len(found) < most:
        row = connection.execute(_ANCESTOR, {"run_id": above}).one_or_none()
        if row is None:
            break
        above = row.parent_run_id
        found.append((row.project, row.pipeline))
    return found


def outputs(
    connection: Connection, project: str, pipeline: str, blocks: Sequence[str], *, gone: Sequence[str] = ()
) -> list[Outputs]:
    """Return the successful runs that have stored outputs of all these blocks, newest first."""
    values = {"of_project": project, "of_pipeline": pipeline}
    finished = {row.id: row.finished_at for row in connection.execute(_FINISHED, values)}
    stored = blocks_of(connection, [run_id for run_id in finished if run_id not in gone])
    found = []
    for run_id, its_blocks in stored.items():
        manifests = {
            block.name: block.checkpoint
            for block in its_blocks
            if block.state is BlockState.SUCCEEDED and block.checkpoint is not None and not block.volatile
        }
        if manifests.keys() >= set(blocks):
            found.append(Outputs(run_id, finished[run_id], {name: manifests[name] for name in blocks}))
    return sorted(found, key=lambda one: one.run_id, reverse=True)


def last_end(connection: Connection, project: str, pipeline: str) -> str | None:
    """Return the newest run of the pipeline that is over, however it ended."""
    values = {"of_project": project, "of_pipeline": pipeline}
    found: str | None = connection.execute(_LAST_END, values).scalar_one_or_none()
    return found


def awaited_by(connection: Connection, run_id: str, call: str) -> str | None:
    """Return the run that this call of the run waits for."""
    values = {"waiting_run": run_id, "by_call": call}
    found: str | None = connection.execute(_AWAITED, values).scalar_one_or_none()
    return found


def in_the_making(connection: Connection, project: str, pipeline: str, product: str) -> str | None:
    """Return an open run that somebody waits for because of this product."""
    values = {"of_project": project, "of_pipeline": pipeline, "of_product": product}
    found: str | None = connection.execute(_IN_THE_MAKING, values).scalar_one_or_none()
    return found


def wait_for(tx: Transaction, run_id: str, call: str, product: str, awaited: str) -> None:
    """Note that this call of the run waits for another run."""
    forget(tx, run_id, call)
    tx.connection.execute(_AWAIT, {"run_id": run_id, "call": call, "product": product, "awaited": awaited})


def forget(tx: Transaction, run_id: str, call: str) -> None:
    tx.connection.execute(_FORGET, {"waiting_run": run_id, "by_call": call})


def states(connection: Connection, run_ids: Sequence[str]) -> dict[str, RunState]:
    """Return the states of those runs that there are."""
    if not run_ids:
        return {}
    rows = connection.execute(_STATES, {"run_ids": sorted(set(run_ids))})
    return {row.id: RunState(row.state) for row in rows}


def wake(tx: Transaction, run_ids: Sequence[str]) -> None:
    """Let runs that are parked for a product look again now. Others are left as they are."""
    parked = list(tx.connection.execute(_LOCK_PARKED, {"run_ids": sorted(set(run_ids))}).scalars())
    if parked:
        values = {"run_ids": parked, "now": tx.now}
        tx.connection.execute(_DUE_NOW, values)
        tx.connection.execute(_LOOK_NOW, values)
        tx.notify("queued")
