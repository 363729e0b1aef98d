"""How often an event was reported to us, repeats included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from service.store.tables import deliveries
from service.store.values import Verdict


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
