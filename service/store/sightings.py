"""Reports of events: which of them are news to the store, and how often each event was reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from service.store.database import Database, Transaction
from service.store.keys import Digester
from service.store.tables import deliveries, event_keys, matches
from service.store.values import Verdict

_KEYS = select(event_keys.c.digest, event_keys.c.event_id, event_keys.c.triggers).where(
    event_keys.c.digest.in_(bindparam("digests", expanding=True))
)
_MATCHED = select(matches.c.event_id).where(
    matches.c.event_id.in_(bindparam("event_ids", expanding=True)),
    matches.c.pipeline == bindparam("of_pipeline"),
    matches.c.trigger == bindparam("of_trigger"),
)
_SIGHTED = select(deliveries.c.event_id).where(
    deliveries.c.event_id.in_(bindparam("event_ids", expanding=True)), deliveries.c.road == bindparam("by")
)


Report = tuple[str, str]  # source and key


@dataclass(frozen=True, slots=True)
class Road:
    """How a trigger hears of events."""

    project: str
    pipeline: str
    trigger: str
    name: str


def known_reports(
    database: Database, road: Road, reports: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Return those (source, key) pairs that need no record: this road told of them, the trigger took them.

    Expired events count. An answer may be old by the time it is used: it saves work, and decides nothing.
    """
    with database.read() as connection:
        digester = Digester(Transaction(connection, database))
        by_digest = {digester.digest(road.project, *report): report for report in reports}
        rows = connection.execute(_KEYS, {"digests": list(by_digest)}).all()
        values = {"event_ids": [row.event_id for row in rows]}
        taken = {"of_pipeline": road.pipeline, "of_trigger": road.trigger}
        matched = set(connection.execute(_MATCHED, values | taken).scalars())
        sighted = set(connection.execute(_SIGHTED, values | {"by": road.name}).scalars())
    return {
        by_digest[bytes(row.digest)]
        for row in rows
        if [road.pipeline, road.trigger] in (row.triggers or ())  # expired, and its deliveries with it
        or (row.event_id in matched and row.event_id in sighted)
    }


def unheard_of(database: Database, project: str, reports: Collection[Report]) -> set[Report]:
    """Return those (source, key) pairs that no road has told of."""
    with database.read() as connection:
        digester = Digester(Transaction(connection, database))
        by_digest = {digester.digest(project, *report): report for report in reports}
        known = {bytes(row.digest) for row in connection.execute(_KEYS, {"digests": list(by_digest)})}
    return {report for digest, report in by_digest.items() if digest not in known}


def sightings_of(connection: Connection, event_ids: Sequence[str]) -> Mapping[str, int]:
    """Count the deliveries of each event that were not refused. Retention may have removed old ones."""
    if not event_ids:
        return {}
    counted = (
        select(deliveries.c.event_id, func.count())
        .where(deliveries.c.event_id.in_(event_ids), deliveries.c.verdict != Verdict.REFUSED.value)
        .group_by(deliveries.c.event_id)
    )
    return {event_id: count for event_id, count in connection.execute(counted).all()}
