"""Deletes what is too old, in small batches, so that nobody waits long for their turn to write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Delete, Select, bindparam, delete, exists, func, select, update

from service.store.database import Transaction
from service.store.tables import (
    awaited_runs,
    backfill_slots,
    backfills,
    block_runs,
    deliveries,
    event_keys,
    events,
    limits,
    matches,
    outgoing,
    pins,
    run_limits,
    run_logs,
    runs,
    sensor_ticks,
    throttles,
    ticks,
)
from service.store.values import OPEN_STATES, Outcome

BATCH = 500  # rows of one kind
SetAside = Callable[[Sequence[str]], None]
UNUSED_PIN_AGE = timedelta(hours=1)

_BEFORE: Any = bindparam("before")
_MOST: Any = bindparam("most")
_IDS: Any = bindparam("ids", expanding=True)

# An event is over when it is so for every trigger: its own outcome is that of one of them.
_IS_HELD = exists().where(matches.c.event_id == events.c.id, matches.c.outcome == Outcome.HELD)
_HAS_OPEN_RUN = exists().where(runs.c.event_id == events.c.id, runs.c.state.in_(OPEN_STATES))
_IS_OVER = ~_IS_HELD & ~_HAS_OPEN_RUN
# Whoever adds a match to an event holds its key. What is at work there is left for the next time.
_HOLD_KEYS = (
    select(event_keys.c.event_id)
    .where(event_keys.c.event_id.in_(_IDS))
    .order_by(event_keys.c.digest)
    .with_for_update(skip_locked=True)
)
_STILL_OVER = select(events.c.id, events.c.outcome).where(events.c.id.in_(_IDS), _IS_OVER)

_OLD_PAYLOADS = (
    select(events.c.id)
    .where(
        events.c.payload_expired.is_(False),
        events.c.payload_until.is_(None),
        events.c.received_at < _BEFORE,
        _IS_OVER,
    )
    .order_by(events.c.received_at)
    .limit(_MOST)
)
# Where a trigger says how long, that counts, be it shorter or longer.
_ENDED_PAYLOADS = (
    select(events.c.id)
    .where(events.c.payload_expired.is_(False), events.c.payload_until < _BEFORE, _IS_OVER)
    .order_by(events.c.payload_until)
    .limit(_MOST)
)
_EMPTY = (
    update(events)
    .where(events.c.id.in_(_IDS))
    .values(data=None, raw=None, headers=None, payload_expired=True)
)

_OLD_EVENTS = (
    select(events.c.id)
    .where(events.c.keep_until.is_(None), events.c.received_at < _BEFORE, _IS_OVER)
    .order_by(events.c.id)
    .limit(_MOST)
)
_ENDED_EVENTS = (
    select(events.c.id)
    .where(events.c.keep_until < _BEFORE, _IS_OVER)
    .order_by(events.c.keep_until)
    .limit(_MOST)
)
_MATCHES_OF_EVENTS = (
    select(matches.c.event_id, matches.c.pipeline, matches.c.trigger, matches.c.run_id)
    .where(matches.c.event_id.in_(_IDS))
    .order_by(matches.c.event_id, matches.c.position)
)
_KEPT_ANSWERS = select(event_keys.c.event_id, event_keys.c.run_ids, event_keys.c.triggers).where(
    event_keys.c.event_id.in_(_IDS), event_keys.c.triggers.is_not(None)
)
_KEEP_ANSWER = (
    update(event_keys)
    .where(event_keys.c.event_id == bindparam("of_event"))
    .values(
        outcome=bindparam("last_outcome"), run_ids=bindparam("its_runs"), triggers=bindparam("its_triggers")
    )
)
_DELETE_EVENTS = (
    delete(deliveries).where(deliveries.c.event_id.in_(_IDS)),
    delete(matches).where(matches.c.event_id.in_(_IDS)),
    delete(events).where(events.c.id.in_(_IDS)),
)

_OLD_DELIVERIES = (
    select(deliveries.c.id).where(deliveries.c.at < _BEFORE).order_by(deliveries.c.id).limit(_MOST)
)
_DELETE_DELIVERIES = delete(deliveries).where(deliveries.c.id.in_(_IDS))

# What is still to be sent stays, however old it is.
_OLD_OUTGOING = (
    select(outgoing.c.id)
    .where(outgoing.c.created_at < _BEFORE, outgoing.c.next_at.is_(None))
    .order_by(outgoing.c.created_at)
    .limit(_MOST)
)
_DELETE_OUTGOING = delete(outgoing).where(outgoing.c.id.in_(_IDS))

_OLD_LINES = (
    select(run_logs.c.run_id, run_logs.c.seq)
    .join(runs, runs.c.id == run_logs.c.run_id)
    .where(runs.c.finished_at < _BEFORE)
    .order_by(run_logs.c.run_id, run_logs.c.seq)
    .limit(_MOST)
    .subquery()
)
_OLD_LOGS = select(_OLD_LINES.c.run_id, func.max(_OLD_LINES.c.seq)).group_by(_OLD_LINES.c.run_id)
_DELETE_LOGS = delete(run_logs).where(
    run_logs.c.run_id == bindparam("of_run"), run_logs.c.seq <= bindparam("upto")
)

_OLD_CHECKPOINTS = (
    select(runs.c.id)
    .where(runs.c.finished_at < _BEFORE, runs.c.checkpoints_deleted.is_(False))
    .order_by(runs.c.finished_at)
    .limit(_MOST)
    .with_for_update(skip_locked=True)  # a retry of such a run comes before all this, or after it
)
# Volatile, so that a retry runs the block again and does not look for what is gone.
_DROP_CHECKPOINTS = (
    update(block_runs)
    .where(block_runs.c.run_id.in_(_IDS), block_runs.c.checkpoint.is_not(None))
    .values(checkpoint=None, volatile=True)
)
_DELETED = update(runs).where(runs.c.id.in_(_IDS)).values(checkpoints_deleted=True)

_OLD_RUNS = (
    select(runs.c.id)
    .where(runs.c.finished_at < _BEFORE, runs.c.checkpoints_deleted.is_(True))
    .order_by(runs.c.id)
    .limit(_MOST)
)
_DELETE_RUNS = (
    delete(run_logs).where(run_logs.c.run_id.in_(_IDS)),
    delete(block_runs).where(block_runs.c.run_id.in_(_IDS)),
    delete(run_limits).where(run_limits.c.run_id.in_(_IDS)),
    delete(awaited_runs).where(awaited_runs.c.run_id.in_(_IDS)),
    delete(runs).where(runs.c.id.in_(_IDS)),
)

_OLD_SENSOR_TICKS = (
    select(sensor_ticks.c.id)
    .where(sensor_ticks.c.finished_at < _BEFORE)
    .order_by(sensor_ticks.c.id)
    .limit(_MOST)
)
_DELETE_SENSOR_TICKS = delete(sensor_ticks).where(sensor_ticks.c.id.in_(_IDS))

_later = ticks.alias("later")
# The latest tick of a trigger stays: catching up begins there.
_OLD_TICKS = (
    select(ticks.c.project, ticks.c.pipeline, ticks.c.trigger, ticks.c.tick_at)
    .where(
        ticks.c.recorded_at < _BEFORE,
        exists().where(
            _later.c.project == ticks.c.project,
            _later.c.pipeline == ticks.c.pipeline,
            _later.c.trigger == ticks.c.trigger,
            _later.c.tick_at > ticks.c.tick_at,
        ),
    )
    .order_by(ticks.c.recorded_at)
    .limit(_MOST)
)
_DELETE_TICK = delete(ticks).where(
    ticks.c.project == bindparam("in_project"),
    ticks.c.pipeline == bindparam("in_pipeline"),
    ticks.c.trigger == bindparam("named"),
    ticks.c.tick_at == bindparam("at"),
)

_USES_PIN = exists().where(runs.c.pin == pins.c.hash)
_UNUSED_PINS = (
    select(pins.c.hash)
    .where(pins.c.created_at < _BEFORE, ~_USES_PIN)
    .limit(_MOST)
    .with_for_update(skip_locked=True)
)
# Asked again in a statement of its own: a claim may have named the pin since the first look.
_DELETE_PINS = delete(pins).where(pins.c.hash.in_(_IDS), ~_USES_PIN)

_OLD_BACKFILLS = (
    select(backfills.c.id).where(backfills.c.finished_at < _BEFORE).order_by(backfills.c.id).limit(_MOST)
)
_DELETE_BACKFILLS = (
    delete(backfill_slots).where(backfill_slots.c.backfill_id.in_(_IDS)),
    delete(backfills).where(backfills.c.id.in_(_IDS)),
)

_NEEDS_LIMIT = exists().where(run_limits.c.key == limits.c.key)
_UNUSED_LIMITS = select(limits.c.key).where(~_NEEDS_LIMIT).limit(_MOST).with_for_update(skip_locked=True)
_DELETE_LIMITS = delete(limits).where(limits.c.key.in_(_IDS), ~_NEEDS_LIMIT)


# The longest window of a throttle is 31 days: what is older says nothing any more.
_OLD_WINDOWS = select(throttles.c.key).where(throttles.c.window_start < _BEFORE).limit(_MOST).with_for_update(
    skip_locked=True
)  # fmt: skip
_DELETE_WINDOWS = delete(throttles).where(throttles.c.key.in_(_IDS))
OLDEST_WINDOW = timedelta(days=32)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long each kind is kept after its end. The keys of events are kept for ever."""

    payloads: timedelta = timedelta(days=30)
    events: timedelta = timedelta(days=365)
    deliveries: timedelta = timedelta(days=30)
    runs: timedelta = timedelta(days=365)
    logs: timedelta = timedelta(days=30)
    checkpoints: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one batch did."""

    rows: int
    checkpoints: int  # runs whose checkpoints went

    @property
    def is_done(self) -> bool:
        return not self.rows and not self.checkpoints


def prune(tx: Transaction, retention: Retention, *, set_aside: SetAside, batch: int = BATCH) -> Pruned:
    """Delete one batch of every kind; to be called until it is done. What is open is never touched.

    `set_aside` is handed the ids of runs whose checkpoint files must be out of the way when the transaction
    ends: whoever retries such a run afterwards makes new ones in the same place. It has to be quick, and may
    be called twice.
    """
    old = _Ages(tx, batch)
    rows = (
        _empty_events(tx, old.ids(_OLD_PAYLOADS, retention.payloads))
        + _empty_events(tx, old.ids(_ENDED_PAYLOADS, timedelta()))
        + _prune_events(tx, old.ids(_OLD_EVENTS, retention.events))
        + _prune_events(tx, old.ids(_ENDED_EVENTS, timedelta()))
        + _delete(tx, old.ids(_OLD_DELIVERIES, retention.deliveries), _DELETE_DELIVERIES)
        + _delete(tx, old.ids(_OLD_OUTGOING, retention.deliveries), _DELETE_OUTGOING)
        + _prune_logs(tx, old.rows(_OLD_LOGS, retention.logs))
        + _delete(tx, old.ids(_OLD_RUNS, retention.runs), *_DELETE_RUNS)
        + _delete(tx, old.ids(_OLD_BACKFILLS, retention.runs), *_DELETE_BACKFILLS)
        + _delete(tx, old.ids(_OLD_SENSOR_TICKS, retention.deliveries), _DELETE_SENSOR_TICKS)
        + _prune_ticks(tx, old.rows(_OLD_TICKS, retention.runs))
        + _delete_unused(tx, old.ids(_UNUSED_PINS, UNUSED_PIN_AGE), _DELETE_PINS)
        + _delete_unused(tx, old.ids(_UNUSED_LIMITS, timedelta()), _DELETE_LIMITS)
        + _delete_unused(tx, old.ids(_OLD_WINDOWS, OLDEST_WINDOW), _DELETE_WINDOWS)
    )
    run_ids = old.ids(_OLD_CHECKPOINTS, retention.checkpoints)
    if run_ids:
        set_aside(run_ids)
    return Pruned(rows, _delete(tx, run_ids, _DROP_CHECKPOINTS, _DELETED))


class _Ages:
    """Finds what is older than an age, a batch at a time."""

    def __init__(self, tx: Transaction, batch: int) -> None:
        self._tx = tx
        self._batch = batch

    def rows(self, query: Select[Any], age: timedelta) -> Sequence[Any]:
        values: dict[str, Any] = {"before": self._tx.now - age, "most": self._batch}
        return self._tx.connection.execute(query, values).all()

    def ids(self, query: Select[Any], age: timedelta) -> list[Any]:
        return [row[0] for row in self.rows(query, age)]


def _delete(tx: Transaction, ids: Sequence[Any], *statements: Any) -> int:
    if ids:
        for statement in statements:
            tx.connection.execute(statement, {"ids": list(ids)})
    return len(ids)


def _delete_unused(tx: Transaction, ids: Sequence[Any], statement: Delete) -> int:
    return tx.connection.execute(statement, {"ids": list(ids)}).rowcount if ids else 0


def _over(tx: Transaction, event_ids: Sequence[str]) -> dict[str, str]:
    """Return the outcomes of those events that are over, and keep all others from adding to them."""
    if not event_ids:
        return {}
    ids = tx.connection.execute(_HOLD_KEYS, {"ids": list(event_ids)}).scalars().all()
    return {event_id: outcome for event_id, outcome in tx.connection.execute(_STILL_OVER, {"ids": ids})}


def _empty_events(tx: Transaction, event_ids: Sequence[str]) -> int:
    return _delete(tx, list(_over(tx, event_ids)), _EMPTY)


def _prune_events(tx: Transaction, event_ids: Sequence[str]) -> int:
    """Delete events; of each there remains what a late repeat must be answered with."""
    outcomes = _over(tx, event_ids)
    if not outcomes:
        return 0
    ids = list(outcomes)
    its_runs: dict[str, list[str]] = defaultdict(list)
    its_triggers: dict[str, list[list[str]]] = defaultdict(list)
    # Of events that came back after their end, for a trigger that was new then.
    for kept in tx.connection.execute(_KEPT_ANSWERS, {"ids": ids}):
        its_runs[kept.event_id] += kept.run_ids
        its_triggers[kept.event_id] += kept.triggers
    for match in tx.connection.execute(_MATCHES_OF_EVENTS, {"ids": ids}):
        its_triggers[match.event_id].append([match.pipeline, match.trigger])
        if match.run_id is not None:
            its_runs[match.event_id].append(match.run_id)
    answers = [
        {
            "of_event": event_id,
            "last_outcome": outcome,
            "its_runs": its_runs[event_id],
            "its_triggers": its_triggers[event_id],
        }
        for event_id, outcome in outcomes.items()
    ]
    tx.connection.execute(_KEEP_ANSWER, answers)
    return _delete(tx, ids, *_DELETE_EVENTS)


def _prune_logs(tx: Transaction, rows: Sequence[Any]) -> int:
    for run_id, seq in rows:
        tx.connection.execute(_DELETE_LOGS, {"of_run": run_id, "upto": seq})
    return len(rows)


def _prune_ticks(tx: Transaction, rows: Sequence[Any]) -> int:
    values = [
        {"in_project": row.project, "in_pipeline": row.pipeline, "named": row.trigger, "at": row.tick_at}
        for row in rows
    ]
    if values:
        tx.connection.execute(_DELETE_TICK, values)
    return len(values)
