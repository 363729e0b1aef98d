"""Ticks of sensors: claimed by one engine, committed in pages with their cursor, closed with a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Text, bindparam, insert, select, type_coerce, update

from service.errors import ClaimLost
from service.store.database import Transaction
from service.store.ids import new_id
from service.store.statements import insert_if_absent
from service.store.tables import sensor_ticks, sensors
from service.store.triggers import TriggerId

_THIS = (
    (sensors.c.project == bindparam("in_project"))
    & (sensors.c.pipeline == bindparam("in_pipeline"))
    & (sensors.c.trigger == bindparam("named"))
)
_INSERT = insert_if_absent(sensors)
_STATE = select(
    sensors.c.cursor, sensors.c.claim, sensors.c.engine_id, sensors.c.lease_until, sensors.c.ticked_at
).where(_THIS)
_LOCK = _STATE.with_for_update()
_CLAIM = (
    update(sensors)
    .where(_THIS)
    .values(
        claim=sensors.c.claim + 1,
        engine_id=bindparam("engine"),
        lease_until=bindparam("lease"),
        ticked_at=bindparam("tick"),
    )
)
_PAGE = (
    update(sensors)
    .where(_THIS, sensors.c.claim == bindparam("held"))
    .values(cursor=bindparam("next_cursor"), lease_until=bindparam("lease"))
)
_FINISH = (
    update(sensors)
    .where(_THIS, sensors.c.claim == bindparam("held"))
    .values(cursor=bindparam("next_cursor"), lease_until=None, engine_id=None)
)
_RENEW = (
    update(sensors)
    # A tick that has just ended holds none, and gets none.
    .where(_THIS, sensors.c.claim == bindparam("held"), sensors.c.lease_until.is_not(None))
    .values(lease_until=bindparam("lease"))
)
_TICKED = update(sensors).where(_THIS).values(ticked_at=bindparam("tick"))
_RESET = (
    update(sensors)
    .where(_THIS)
    .values(
        cursor=bindparam("next_cursor"),
        claim=sensors.c.claim + 1,
        engine_id=None,
        lease_until=None,
        ticked_at=None,
    )
)
_INSERT_TICK = insert(sensor_ticks)
# A cursor is a text. What stands there during a first sight, or after a reset, is none.
_WATCHING = select(sensors.c.project, sensors.c.pipeline, sensors.c.trigger).where(
    type_coerce(sensors.c.cursor, Text).like('"%')
)


@dataclass(frozen=True, slots=True)
class SensorClaim:
    """The right to tick a sensor until the lease lapses. A cursor of None: it was never ticked.

    A sensor of many engines at once is not claimed: it has neither lease nor cursor.
    """

    project: str
    pipeline: str
    trigger: str
    tick_at: datetime
    started_at: datetime
    claim: int
    cursor: Any
    lease_seconds: float
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class SensorTick:
    """What a tick of a sensor came to."""

    seen: int = 0
    new: int = 0
    duplicate: int = 0
    filtered: int = 0
    capped: int = 0  # left for the next tick
    reconciled: int = 0  # new ones that no notification had told of
    error: str | None = None
    reason: str | None = None  # why nothing ran


@dataclass(frozen=True, slots=True)
class SensorState:
    """Where a sensor stands; one that was never ticked stands nowhere."""

    cursor: Any = None
    ticked_at: datetime | None = None
    engine_id: str | None = None  # of the engine that is at it
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class FinishedTick:
    """A tick of a sensor, as it lies in the store."""

    id: str
    tick_at: datetime
    started_at: datetime
    finished_at: datetime
    result: SensorTick
    cursor_before: Any
    cursor_after: Any


def claim_sensor(
    tx: Transaction,
    project: str,
    pipeline: str,
    trigger: str,
    *,
    tick_at: datetime,
    engine_id: str,
    lease_seconds: float,
) -> SensorClaim | None:
    """Take the tick due at `tick_at`; None when another engine has it, or it is behind the last one.

    A tick whose engine died is taken again once its lease has lapsed, and goes on from its last page; one
    that an engine could not bring to an end, by the same engine at once.
    """
    names = _known(tx, project, pipeline, trigger)
    state = tx.connection.execute(_LOCK, names).one()
    is_leased = state.lease_until is not None
    if is_leased and state.lease_until > tx.now and state.engine_id != engine_id:
        return None
    if not is_leased and state.ticked_at is not None and state.ticked_at >= tick_at:
        return None
    lease = tx.now + timedelta(seconds=lease_seconds)
    tx.connection.execute(_CLAIM, {**names, "engine": engine_id, "lease": lease, "tick": tick_at})
    return SensorClaim(
        project, pipeline, trigger, tick_at, tx.now, state.claim + 1, state.cursor, lease_seconds
    )


def join_sensor(
    tx: Transaction, project: str, pipeline: str, trigger: str, *, tick_at: datetime
) -> SensorClaim:
    """Tick a shared sensor beside any others that do."""
    names = _known(tx, project, pipeline, trigger)
    tx.connection.execute(_TICKED, {**names, "tick": tick_at})
    return SensorClaim(project, pipeline, trigger, tick_at, tx.now, 0, None, 0.0, is_shared=True)


def renew_claims(tx: Transaction, claims: Iterable[SensorClaim]) -> None:
    """Prolong the leases that still hold; of a lost one the next write tells."""
    for claim in claims:
        lease = tx.now + timedelta(seconds=claim.lease_seconds)
        tx.connection.execute(_RENEW, {**_names_of(claim), "held": claim.claim, "lease": lease})


def reset_sensor(tx: Transaction, project: str, pipeline: str, trigger: str, cursor: Any) -> None:
    """Set the cursor anew. A tick that goes on has lost its claim, and the next one is due at once."""
    names = _known(tx, project, pipeline, trigger)
    tx.connection.execute(_RESET, {**names, "next_cursor": cursor})


def commit_page(tx: Transaction, claim: SensorClaim, cursor: Any) -> None:
    """Move the cursor behind a page and prolong the lease, in the transaction that records the page's events.

    Raises ClaimLost, which must end the transaction: another engine ticks this sensor now.
    """
    if claim.is_shared:
        return
    lease = tx.now + timedelta(seconds=claim.lease_seconds)
    values = {**_names_of(claim), "held": claim.claim, "next_cursor": cursor, "lease": lease}
    if tx.connection.execute(_PAGE, values).rowcount != 1:
        raise ClaimLost("sensor", f"{claim.pipeline}/{claim.trigger}")


def finish_tick(tx: Transaction, claim: SensorClaim, result: SensorTick, cursor: Any) -> None:
    """Give the sensor back and leave the tick's row. Raises ClaimLost like `commit_page`."""
    if not claim.is_shared:
        values = {**_names_of(claim), "held": claim.claim, "next_cursor": cursor}
        if tx.connection.execute(_FINISH, values).rowcount != 1:
            raise ClaimLost("sensor", f"{claim.pipeline}/{claim.trigger}")
    tx.connection.execute(
        _INSERT_TICK,
        {
            "id": new_id(),
            "project": claim.project,
            "pipeline": claim.pipeline,
            "trigger": claim.trigger,
            "tick_at": claim.tick_at,
            "started_at": claim.started_at,
            "finished_at": tx.now,
            "seen": result.seen,
            "new": result.new,
            "duplicate": result.duplicate,
            "filtered": result.filtered,
            "capped": result.capped,
            "reconciled": result.reconciled,
            "error": result.error,
            "reason": result.reason,
            "cursor_before": claim.cursor,
            "cursor_after": cursor,
        },
    )


def state_of(connection: Connection, project: str, pipeline: str, trigger: str) -> SensorState:
    """Return where the sensor stands."""
    row = connection.execute(_STATE, _names(project, pipeline, trigger)).one_or_none()
    if row is None:
        return SensorState()
    return SensorState(row.cursor, row.ticked_at, row.engine_id, row.lease_until)


def watching(connection: Connection) -> frozenset[TriggerId]:
    """Return the triggers whose sensors have had their first sight, to its end."""
    return frozenset((project, pipeline, name) for project, pipeline, name in connection.execute(_WATCHING))


def listing(
    connection: Connection, project: str, pipeline: str, trigger: str, *, limit: int = 50
) -> list[FinishedTick]:
    """Return the finished ticks of a sensor, newest first."""
    columns = sensor_ticks.c
    rows = connection.execute(
        select(
            columns.id, columns.tick_at, columns.started_at, columns.finished_at,
            columns.seen, columns.new, columns.duplicate, columns.filtered, columns.capped,
            columns.reconciled, columns.error, columns.reason, columns.cursor_before, columns.cursor_after,
        )
        .where(columns.project == project, columns.pipeline == pipeline, columns.trigger == trigger)
        .order_by(columns.id.desc())
        .limit(limit)
    )  # fmt: skip
    return [FinishedTick(*row[:4], SensorTick(*row[4:12]), *row[12:]) for row in rows]


def _known(tx: Transaction, project: str, pipeline: str, trigger: str) -> dict[str, Any]:
    """Make the sensor's row where there is none, and return what finds it."""
    new = {"project": project, "pipeline": pipeline, "trigger": trigger, "claim": 0}
    tx.connection.execute(_INSERT[tx.database.dialect], new)
    return _names(project, pipeline, trigger)


def _names(project: str, pipeline: str, trigger: str) -> dict[str, Any]:
    return {"in_project": project, "in_pipeline": pipeline, "named": trigger}


def _names_of(claim: SensorClaim) -> dict[str, Any]:
    return _names(claim.project, claim.pipeline, claim.trigger)
