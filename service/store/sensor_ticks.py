"""Ticks of sensors: one engine claims one, commits its pages while it holds the claim, and leaves a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from service.store.database import Database, Transaction
from service.store.ids import new_id
from service.store.keys import Digester
from service.store.statements import insert_if_absent
from service.store.tables import event_keys, sensor_ticks, sensors

_INSERT_SENSOR = insert_if_absent(sensors)
_OF_SENSOR = and_(
    sensors.c.project == bindparam("p_project"),
    sensors.c.pipeline == bindparam("p_pipeline"),
    sensors.c.trigger == bindparam("p_trigger"),
)
_CLAIM = (
    update(sensors)
    .where(
        _OF_SENSOR,
        or_(sensors.c.ticked_at.is_(None), sensors.c.ticked_at < bindparam("tick_at")),
        or_(sensors.c.lease_until.is_(None), sensors.c.lease_until <= bindparam("now")),
    )
    .values(
        claim=sensors.c.claim + 1,
        engine_id=bindparam("engine"),
        lease_until=bindparam("until"),
        ticked_at=bindparam("tick_at"),
    )
    .returning(sensors.c.claim, sensors.c.cursor)
)
_HELD = and_(_OF_SENSOR, sensors.c.claim == bindparam("p_claim"))
_PAGE = update(sensors).where(_HELD).values(cursor=bindparam("new_cursor"), lease_until=bindparam("until"))
_RELEASE = update(sensors).where(_HELD).values(lease_until=None, engine_id=None)
_KNOWN = select(event_keys.c.digest).where(event_keys.c.digest.in_(bindparam("digests", expanding=True)))


@dataclass(frozen=True, slots=True)
class SensorClaim:
    """The right to tick a sensor, until another engine takes it over."""

    project: str
    pipeline: str
    trigger: str
    number: int
    tick_at: datetime
    cursor: str | None


@dataclass(frozen=True, slots=True)
class SensorTick:
    """What one tick of a sensor found, and why nothing ran where nothing did."""

    project: str
    pipeline: str
    trigger: str
    tick_at: datetime
    started_at: datetime
    finished_at: datetime
    seen: int = 0
    new: int = 0
    duplicate: int = 0
    filtered: int = 0
    capped: int = 0
    error: str | None = None
    reason: str | None = None
    cursor_before: str | None = None
    cursor_after: str | None = None
    id: str = field(default_factory=new_id)


def claim(
    tx: Transaction,
    project: str,
    pipeline: str,
    trigger: str,
    *,
    tick_at: datetime,
    engine_id: str,
    lease: timedelta,
) -> SensorClaim | None:
    """Claim the tick of that moment. None when another engine has ticked it, or is at it."""
    new = {"project": project, "pipeline": pipeline, "trigger": trigger, "claim": 0}
    tx.connection.execute(_INSERT_SENSOR[tx.database.dialect], new)
    values = {
        "p_project": project,
        "p_pipeline": pipeline,
        "p_trigger": trigger,
        "tick_at": tick_at,
        "now": tx.now,
        "engine": engine_id,
        "until": tx.now + lease,
    }
    row = tx.connection.execute(_CLAIM, values).one_or_none()
    if row is None:
        return None
    return SensorClaim(project, pipeline, trigger, row.claim, tick_at, row.cursor)


def commit_page(tx: Transaction, held: SensorClaim, cursor: str | None, *, lease: timedelta) -> bool:
    """Keep the cursor of a page and renew the claim. False when the claim is lost: the page must not stay."""
    values = {**_place(held), "new_cursor": cursor, "until": tx.now + lease}
    return tx.connection.execute(_PAGE, values).rowcount == 1


def finish(tx: Transaction, held: SensorClaim, tick: SensorTick) -> None:
    """Let go of the claim and leave the tick's row."""
    tx.connection.execute(_RELEASE, _place(held))
    tx.connection.execute(insert(sensor_ticks), asdict(tick))


def known_keys(database: Database, project: str, source: str, keys: frozenset[str]) -> frozenset[str]:
    """Return those of `keys` that an event of the source has had, expired ones included."""
    with database.read() as connection:
        digester = Digester(Transaction(connection, database))
        by_digest = {digester.digest(project, source, key): key for key in keys}
        found = connection.execute(_KNOWN, {"digests": list(by_digest)}).scalars()
        return frozenset(by_digest[bytes(digest)] for digest in found)


def listing(
    connection: Connection, project: str, pipeline: str, trigger: str, *, limit: int = 50
) -> list[SensorTick]:
    """Return the newest ticks of a sensor, newest first."""
    columns = [sensor_ticks.c[name] for name in SensorTick.__dataclass_fields__]
    query = (
        select(*columns)
        .where(
            sensor_ticks.c.project == project,
            sensor_ticks.c.pipeline == pipeline,
            sensor_ticks.c.trigger == trigger,
        )
        .order_by(sensor_ticks.c.id.desc())
        .limit(limit)
    )
    return [SensorTick(**row._mapping) for row in connection.execute(query)]


def _place(held: SensorClaim) -> dict[str, object]:
    return {
        "p_project": held.project,
        "p_pipeline": held.pipeline,
        "p_trigger": held.trigger,
        "p_claim": held.number,
    }
