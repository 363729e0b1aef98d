"""The slots of backfills, and what else covers the same spans of time or has done the same events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select, update

from service.store.columns import Prose
from service.store.database import Transaction
from service.store.tables import backfill_slots, backfills, events, matches, runs
from service.store.values import Outcome, RunState


class SlotState(StrEnum):
    PENDING = "pending"  # its run is not made yet
    SUBMITTED = "submitted"  # it has a run, whose state counts from now on
    SKIPPED = "skipped"  # it needs no run: the reason says why
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_SLOT_COLUMNS = (
    backfill_slots.c.position,
    backfill_slots.c.chunk,
    backfill_slots.c.start,
    backfill_slots.c.end,
    backfill_slots.c.event_id,
    backfill_slots.c.state,
    backfill_slots.c.reason,
    backfill_slots.c.run_id,
)
_SLOTS = (
    select(*_SLOT_COLUMNS, runs.c.state, runs.c.started_at, runs.c.finished_at, runs.c.error)
    .select_from(backfill_slots.outerjoin(runs, runs.c.id == backfill_slots.c.run_id))
    .where(
        backfill_slots.c.backfill_id == bindparam("of_backfill"),
        backfill_slots.c.position > bindparam("after"),
    )
    .order_by(backfill_slots.c.position)
    .limit(bindparam("most"))
)
_PENDING: Select[Any] = (
    select(*_SLOT_COLUMNS)
    .where(
        backfill_slots.c.backfill_id == bindparam("of_backfill"),
        backfill_slots.c.state == SlotState.PENDING.value,
    )
    .order_by(backfill_slots.c.position)
    .limit(bindparam("most"))
)
_SETTLE = (
    update(backfill_slots)
    .where(
        backfill_slots.c.backfill_id == bindparam("of_backfill"),
        backfill_slots.c.position == bindparam("at"),
    )
    .values(
        state=bindparam("new_state"),
        reason=func.coalesce(bindparam("why", type_=Prose), backfill_slots.c.reason),
        run_id=bindparam("run"),
    )
)
_FIRST, _LAST = (
    bindparam("first", type_=runs.c.execution_date.type),
    bindparam("last", type_=runs.c.execution_date.type),
)
_COVERING = (
    select(
        runs.c.id, runs.c.state, runs.c.execution_date, runs.c.interval_start, runs.c.interval_end
    )
    .where(
        runs.c.project == bindparam("in_project"),
        runs.c.pipeline == bindparam("of_pipeline"),
        runs.c.selection.is_(None),  # a run of some blocks does not do what the pipeline does
        or_(
            and_(runs.c.execution_date >= _FIRST, runs.c.execution_date <= _LAST),
            and_(runs.c.interval_start <= _LAST, runs.c.interval_end >= _FIRST),
        ),
    )
    .order_by(runs.c.id)
)  # fmt: skip
_WAITING = (
    select(backfill_slots.c.start, backfill_slots.c.end, backfill_slots.c.backfill_id)
    .join(backfills, backfills.c.id == backfill_slots.c.backfill_id)
    .where(
        backfills.c.finished_at.is_(None),
        backfills.c.project == bindparam("in_project"),
        backfills.c.pipeline == bindparam("of_pipeline"),
        backfill_slots.c.state == SlotState.PENDING.value,
        backfill_slots.c.start <= _LAST,
        backfill_slots.c.end >= _FIRST,
    )
)
_EVENTS_WAITING = (
    select(backfill_slots.c.event_id, backfill_slots.c.backfill_id)
    .join(backfills, backfills.c.id == backfill_slots.c.backfill_id)
    .where(
        backfills.c.finished_at.is_(None),
        backfills.c.project == bindparam("in_project"),
        backfills.c.pipeline == bindparam("of_pipeline"),
        backfills.c.trigger == bindparam("of_trigger"),
        backfill_slots.c.state == SlotState.PENDING.value,
        backfill_slots.c.event_id.is_not(None),
    )
)
# What the trigger made of replays, newest last.
_REPLAYED = (
    select(events.c.replay_of, matches.c.outcome, matches.c.run_id)
    .select_from(matches.join(events, events.c.id == matches.c.event_id))
    .where(
        matches.c.project == bindparam("in_project"),
        matches.c.pipeline == bindparam("of_pipeline"),
        matches.c.trigger == bindparam("of_trigger"),
        matches.c.event_id > bindparam("after"),
        events.c.replay_of.is_not(None),
    )
    .order_by(matches.c.event_id)
)
_STATES = select(runs.c.id, runs.c.state).where(runs.c.id.in_(bindparam("run_ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class StoredSlot:
    position: int
    chunk: int
    start: datetime | None
    end: datetime | None
    event_id: str | None
    state: str  # its run's, where it has one
    reason: str | None
    run_id: str | None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Where runs are looked for. Without a trigger all runs of the pipeline count."""

    project: str
    pipeline: str
    trigger: str | None
    first: datetime
    last: datetime

    def values(self) -> dict[str, Any]:
        return {
            "in_project": self.project,
            "of_pipeline": self.pipeline,
            "first": self.first,
            "last": self.last,
        }


@dataclass(frozen=True, slots=True)
class Covering:
    """A run, or a slot of another backfill that waits for its run, with the time it stands for."""

    moment: datetime
    start: datetime | None
    end: datetime | None
    state: RunState
    run_id: str | None = None
    backfill_id: str | None = None


def page(connection: Connection, backfill_id: str, *, limit: int, after: int = -1) -> list[StoredSlot]:
    """Return slots in the order of processing. `after` is the last position of the page before."""
    rows = connection.execute(_SLOTS, {"of_backfill": backfill_id, "after": after, "most": limit})
    found = []
    for row in rows:
        *of_slot, run_state, started_at, finished_at, error = row
        of_run = {"started_at": started_at, "finished_at": finished_at, "error": error}
        slot = replace(StoredSlot(*of_slot), **of_run)
        found.append(slot if run_state is None else replace(slot, state=run_state))
    return found


def next_chunks(
    connection: Connection, backfill_id: str, *, chunks: int, chunk_size: int
) -> list[list[StoredSlot]]:
    """Return the slots of the next chunks that have no run yet, chunk by chunk."""
    rows = connection.execute(_PENDING, {"of_backfill": backfill_id, "most": chunks * chunk_size})
    found: dict[int, list[StoredSlot]] = defaultdict(list)
    for row in rows:
        if row.chunk not in found and len(found) == chunks:
            break
        found[row.chunk].append(StoredSlot(*row))
    return list(found.values())


def settle(
    tx: Transaction,
    backfill_id: str,
    positions: Sequence[int],
    state: SlotState,
    *,
    reason: str | None = None,
    run_id: str | None = None,
) -> None:
    """Say what became of slots that waited."""
    values = {"of_backfill": backfill_id, "new_state": state.value, "why": reason, "run": run_id}
    if positions:
        tx.connection.execute(_SETTLE, [values | {"at": position} for position in positions])


def covering(connection: Connection, span: Span, *, besides: str | None = None) -> list[Covering]:
    """Return what stands for times within the span, oldest first; slots of the backfill `besides` do not."""
    of_runs, waiting = _COVERING, _WAITING
    if span.trigger is not None:
        of_runs = of_runs.where(runs.c.trigger == span.trigger)
        waiting = waiting.where(backfills.c.trigger == span.trigger)
    if besides is not None:
        waiting = waiting.where(backfills.c.id != besides)
    found = [
        Covering(moment, start, end, RunState(state), run_id)
        for run_id, state, moment, start, end in connection.execute(of_runs, span.values())
    ]
    for start, end, backfill_id in connection.execute(waiting, span.values()):
        found.append(Covering(start, start, end, RunState.QUEUED, backfill_id=backfill_id))
    return found


def events_waiting(connection: Connection, project: str, pipeline: str, trigger: str) -> Mapping[str, str]:
    """Return the events that slots of open backfills wait to do again, each with its backfill."""
    values = {"in_project": project, "of_pipeline": pipeline, "of_trigger": trigger}
    return {event_id: backfill_id for event_id, backfill_id in connection.execute(_EVENTS_WAITING, values)}


def replayed(
    connection: Connection, project: str, pipeline: str, trigger: str, *, since_id: str
) -> Mapping[str, tuple[Outcome, str | None]]:
    """Return what the trigger made of the newest replay of each event that has one: outcome and run."""
    values = {"in_project": project, "of_pipeline": pipeline, "of_trigger": trigger, "after": since_id}
    return {
        event_id: (Outcome(outcome), run_id)
        for event_id, outcome, run_id in connection.execute(_REPLAYED, values)
    }


def run_states(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, RunState]:
    """Return the states of those of the runs that are still there."""
    if not run_ids:
        return {}
    rows = connection.execute(_STATES, {"run_ids": list(run_ids)})
    return {run_id: RunState(state) for run_id, state in rows}
