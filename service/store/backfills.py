"""Backfills: what was asked for, how far each has come, and the changes of its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from service.errors import NotFound, WrongState
from service.store import limits
from service.store.backfill_slots import SlotState
from service.store.database import Transaction
from service.store.runs import cancel as cancel_run
from service.store.tables import backfill_slots, backfills, runs
from service.store.values import RunState

TOPIC = "backfills"

_INSERT = insert(backfills)
_INSERT_SLOTS = insert(backfill_slots)
_ROWS: Select[Any] = select(backfills)
_RUNNING = (
    select(backfills.c.id)
    .where(backfills.c.finished_at.is_(None), backfills.c.state == "running")
    .order_by(backfills.c.id)
)
_OPEN_STATES = [state.value for state in RunState if not state.is_final]
_OPEN_RUNS = select(runs.c.id).where(
    runs.c.backfill_id == bindparam("of_backfill"), runs.c.state.in_(_OPEN_STATES)
).order_by(runs.c.id)  # fmt: skip
# The run's own state, as long as the run is there; of what has no run, or none any more, the slot's.
_STATE = func.coalesce(runs.c.state, backfill_slots.c.state)
_COUNTS = (
    select(backfill_slots.c.backfill_id, _STATE, func.count())
    .select_from(backfill_slots.outerjoin(runs, runs.c.id == backfill_slots.c.run_id))
    .where(backfill_slots.c.backfill_id.in_(bindparam("backfill_ids", expanding=True)))
    .group_by(backfill_slots.c.backfill_id, _STATE)
)
_RUN_STATES = (
    select(runs.c.state, func.count())
    .where(runs.c.backfill_id == bindparam("of_backfill"))
    .group_by(runs.c.state)
)
_FAILED_WITHOUT_RUN = select(func.count()).where(
    backfill_slots.c.backfill_id == bindparam("of_backfill"),
    backfill_slots.c.state == SlotState.FAILED.value,
    backfill_slots.c.run_id.is_(None),
)
_PENDING = select(func.count()).where(
    backfill_slots.c.backfill_id == bindparam("of_backfill"),
    backfill_slots.c.state == SlotState.PENDING.value,
)
_TIMES = (
    select(func.count(), func.avg(runs.c.finished_at - runs.c.started_at))
    .where(runs.c.backfill_id == bindparam("of_backfill"), runs.c.state == RunState.SUCCEEDED.value)
)  # fmt: skip
_CHANGE = (
    update(backfills)
    .where(backfills.c.id == bindparam("the_backfill"))
    .values(
        state=bindparam("new_state"),
        reason=bindparam("why"),
        stop_after=bindparam("stops_after"),
        finished_at=bindparam("ended_at"),
    )
)
_CANCEL_PENDING = (
    update(backfill_slots)
    .where(
        backfill_slots.c.backfill_id == bindparam("of_backfill"),
        backfill_slots.c.state == SlotState.PENDING.value,
    )
    .values(state=SlotState.CANCELLED.value, reason="the backfill was cancelled")
)
# Runs are pruned one day; what became of the slots is still to be seen then.
_STATE_OF_RUN = select(runs.c.state).where(runs.c.id == backfill_slots.c.run_id).scalar_subquery()
_KEEP_STATES = (
    update(backfill_slots)
    .where(
        backfill_slots.c.backfill_id == bindparam("of_backfill"),
        backfill_slots.c.state == SlotState.SUBMITTED.value,
    )
    .values(state=func.coalesce(_STATE_OF_RUN, backfill_slots.c.state))
)


class BackfillState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"  # nothing new begins until it is resumed
    STOPPED = "stopped"  # by failures; it may be resumed or cancelled
    CANCELLED = "cancelled"
    FINISHED = "finished"

    @property
    def is_final(self) -> bool:
        return self in (BackfillState.CANCELLED, BackfillState.FINISHED)


@dataclass(frozen=True, slots=True)
class Place:
    """What a backfill is of. Without a trigger it is the pipeline as such."""

    project: str
    pipeline: str
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    id: str
    place: Place
    spec: Mapping[str, Any]  # what was asked for
    state: BackfillState
    reason: str | None
    concurrency: int
    stop_after: int | None  # the number of failures at which it stops
    created_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewSlot:
    """One slot to be stored. `position` is its place in the order of processing; 0 is the chunk of no run."""

    position: int
    chunk: int
    start: datetime | None
    end: datetime | None
    event_id: str | None
    state: SlotState
    reason: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of its runs are open and have failed, and how many slots wait for one."""

    open: int
    failed: int
    pending: int


def begin_alone(tx: Transaction, place: Place) -> None:
    """Wait until nobody else submits a backfill of the pipeline: two must not both find a slot free."""
    limits.lock(tx, [f"backfills:{place.project}/{place.pipeline}"])


def add(tx: Transaction, new: Backfill, slots: Sequence[NewSlot]) -> None:
    """Store a backfill with its slots and wake the engines."""
    row = {
        "id": new.id,
        "project": new.place.project,
        "pipeline": new.place.pipeline,
        "trigger": new.place.trigger,
        "spec": dict(new.spec),
        "state": new.state.value,
        "reason": new.reason,
        "concurrency": new.concurrency,
        "stop_after": new.stop_after,
        "created_at": new.created_at,
        "finished_at": None,
    }
    tx.connection.execute(_INSERT, row)
    tx.connection.execute(_INSERT_SLOTS, [_slot_row(new.id, slot) for slot in slots])
    tx.notify(TOPIC)


def get(connection: Connection, backfill_id: str) -> Backfill | None:
    row = connection.execute(_ROWS.where(backfills.c.id == backfill_id)).one_or_none()
    return None if row is None else _backfill(row)


def listing(
    connection: Connection,
    *,
    project: str | None = None,
    pipeline: str | None = None,
    state: BackfillState | None = None,
    limit: int = 50,
    after_id: str | None = None,
) -> list[Backfill]:
    """Return backfills, newest first. `after_id` is the last id of the page before."""
    query = _ROWS.order_by(backfills.c.id.desc()).limit(limit)
    wanted = {
        backfills.c.project: project,
        backfills.c.pipeline: pipeline,
        backfills.c.state: None if state is None else state.value,
    }
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    if after_id is not None:
        query = query.where(backfills.c.id < after_id)
    return [_backfill(row) for row in connection.execute(query)]


def running(connection: Connection) -> list[str]:
    """Return the ids of all backfills that want to go on, oldest first."""
    return list(connection.execute(_RUNNING).scalars())


def counts(connection: Connection, backfill_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many slots of each backfill are in each state: their run's, where they have one."""
    found: dict[str, dict[str, int]] = {ident: {} for ident in backfill_ids}
    if backfill_ids:
        for ident, state, number in connection.execute(_COUNTS, {"backfill_ids": list(backfill_ids)}):
            found[ident][state] = number
    return found


def tally(connection: Connection, backfill_id: str) -> Tally:
    values = {"of_backfill": backfill_id}
    states = {state: number for state, number in connection.execute(_RUN_STATES, values)}
    without_run = connection.execute(_FAILED_WITHOUT_RUN, values).scalar_one()
    return Tally(
        open=sum(number for state, number in states.items() if not RunState(state).is_final),
        failed=states.get(RunState.FAILED, 0) + without_run,
        pending=connection.execute(_PENDING, values).scalar_one(),
    )


def mean_seconds(connection: Connection, backfill_id: str) -> float | None:
    """Return how long its runs took that succeeded, on average; None before there is one."""
    count, micros = connection.execute(_TIMES, {"of_backfill": backfill_id}).one()
    return float(micros) / 1e6 if count and micros is not None else None


def lock_running(tx: Transaction, backfill_id: str) -> Backfill | None:
    """Lock a backfill that wants to go on. None when it does not, or another engine is at it."""
    query = _ROWS.where(backfills.c.id == backfill_id).with_for_update(skip_locked=True)
    row = tx.connection.execute(query).one_or_none()
    return None if row is None or row.state != BackfillState.RUNNING else _backfill(row)


def stop(tx: Transaction, backfill: Backfill, reason: str) -> None:
    """Begin nothing more, for a reason."""
    _change(tx, backfill, BackfillState.STOPPED, reason=reason)


def finish(tx: Transaction, backfill: Backfill) -> None:
    _end(tx, backfill, BackfillState.FINISHED)


def pause(tx: Transaction, backfill_id: str) -> Backfill:
    """Begin nothing more until it is resumed. Raises NotFound or WrongState. Idempotent."""
    found = _locked(tx, backfill_id)
    if found.state not in (BackfillState.RUNNING, BackfillState.PAUSED):
        raise WrongState("backfill", backfill_id, found.state, "pause")
    _change(tx, found, BackfillState.PAUSED)
    return _locked(tx, backfill_id)


def resume(tx: Transaction, backfill_id: str) -> Backfill:
    """Let a paused or stopped one go on; it may then fail as often again as at first. Idempotent.

    Raises NotFound or WrongState.
    """
    found = _locked(tx, backfill_id)
    if found.state.is_final:
        raise WrongState("backfill", backfill_id, found.state, "resume")
    more = found.spec.get("stop_after")
    is_stopped = found.state is BackfillState.STOPPED
    if is_stopped and more is not None:
        stops_after = tally(tx.connection, backfill_id).failed + more
    else:
        stops_after = found.stop_after
    _change(tx, found, BackfillState.RUNNING, stop_after=stops_after)
    return _locked(tx, backfill_id)


def cancel(tx: Transaction, backfill_id: str) -> Backfill:
    """End it: what waits is cancelled, what runs is asked to end. Idempotent.

    Raises NotFound or WrongState.
    """
    found = _locked(tx, backfill_id)
    if found.state is BackfillState.FINISHED:
        raise WrongState("backfill", backfill_id, found.state, "cancel")
    if found.state is not BackfillState.CANCELLED:
        tx.connection.execute(_CANCEL_PENDING, {"of_backfill": backfill_id})
        for run_id in tx.connection.execute(_OPEN_RUNS, {"of_backfill": backfill_id}).scalars().all():
            with suppress(WrongState):  # it has ended since
                cancel_run(tx, run_id)
        _end(tx, found, BackfillState.CANCELLED)
    return _locked(tx, backfill_id)


def _locked(tx: Transaction, backfill_id: str) -> Backfill:
    row = tx.connection.execute(_ROWS.where(backfills.c.id == backfill_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("backfill", backfill_id)
    return _backfill(row)


def _end(tx: Transaction, backfill: Backfill, state: BackfillState) -> None:
    tx.connection.execute(_KEEP_STATES, {"of_backfill": backfill.id})
    _change(tx, backfill, state)


def _change(
    tx: Transaction,
    backfill: Backfill,
    state: BackfillState,
    *,
    reason: str | None = None,
    stop_after: int | None = None,
) -> None:
    values = {
        "the_backfill": backfill.id,
        "new_state": state.value,
        "why": reason,
        "stops_after": backfill.stop_after if stop_after is None else stop_after,
        "ended_at": tx.now if state.is_final else None,
    }
    tx.connection.execute(_CHANGE, values)
    tx.notify(TOPIC)


def _slot_row(backfill_id: str, slot: NewSlot) -> dict[str, Any]:
    return {
        "backfill_id": backfill_id,
        "position": slot.position,
        "chunk": slot.chunk,
        "start": slot.start,
        "end": slot.end,
        "event_id": slot.event_id,
        "state": slot.state.value,
        "reason": slot.reason,
        "run_id": None,
    }


def _backfill(row: Row[Any]) -> Backfill:
    return Backfill(
        row.id,
        Place(row.project, row.pipeline, row.trigger),
        row.spec,
        BackfillState(row.state),
        row.reason,
        row.concurrency,
        row.stop_after,
        row.created_at,
        row.finished_at,
    )
