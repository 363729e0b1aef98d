"""Events that wait for their batch: held matches with a group. What is complete is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, select, update

from service.store import limits
from service.store.database import Transaction
from service.store.event_reading import select_events, with_matches
from service.store.outcomes import settle_outcomes
from service.store.tables import events, matches
from service.store.triggers import TriggerId
from service.store.values import Outcome, StoredEvent

MOST_BYTES = 16 * 1024 * 1024  # of the data of one batch: what is beyond goes into the next

_SETTLING = (
    (matches.c.outcome == literal_column(f"'{Outcome.HELD.value}'"))  # spelled out for the partial index
    & matches.c.settle_group.is_not(None)
)
_OF_TRIGGER = (
    (matches.c.project == bindparam("in_project"))
    & (matches.c.pipeline == bindparam("in_pipeline"))
    & (matches.c.trigger == bindparam("named"))
    & _SETTLING
)
_OF_GROUP = _OF_TRIGGER & (matches.c.settle_group == bindparam("in_group"))
_TRIGGERS = select(matches.c.project, matches.c.pipeline, matches.c.trigger).where(_SETTLING).distinct()
_GROUPS = (
    select(
        matches.c.settle_group, func.count(), func.min(events.c.received_at), func.max(events.c.received_at)
    )
    .join(events, events.c.id == matches.c.event_id)
    .where(_OF_TRIGGER)
    .group_by(matches.c.settle_group)
    .order_by(func.min(events.c.received_at), matches.c.settle_group)
)
_SIZES = (
    select(events.c.id, func.coalesce(func.length(events.c.data), 0))
    .join(matches, matches.c.event_id == events.c.id)
    .where(_OF_GROUP)
    .order_by(events.c.id)
    .limit(bindparam("most"))
)
_EVENTS = select_events().where(events.c.id.in_(bindparam("event_ids", expanding=True))).order_by(events.c.id)
_STILL = (
    select(func.count())
    .select_from(matches)
    .where(_OF_GROUP, matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
)
_END = (
    update(matches)
    .where(_OF_GROUP, matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
    .values(outcome=bindparam("new_outcome"), reason=bindparam("why"), run_id=bindparam("run"))
)
_UNGROUP = update(matches).where(_OF_TRIGGER).values(settle_group=None)


@dataclass(frozen=True, slots=True)
class Group:
    """The events of a trigger that wait for the same batch."""

    name: str
    count: int
    first: datetime  # when the oldest arrived
    last: datetime


def triggers(connection: Connection) -> frozenset[TriggerId]:
    """Return the triggers that gather events now."""
    return frozenset((project, pipeline, name) for project, pipeline, name in connection.execute(_TRIGGERS))


def groups(connection: Connection, trigger: TriggerId) -> list[Group]:
    """Return the groups of a trigger, the longest waiting first."""
    return [Group(*row) for row in connection.execute(_GROUPS, _names(trigger))]


def members(connection: Connection, trigger: TriggerId, group: str, *, most: int) -> list[StoredEvent]:
    """Return the oldest events of a group: as many as make one batch, and at least one."""
    sizes = connection.execute(_SIZES, {**_names(trigger), "in_group": group, "most": most}).all()
    sums = accumulate(size for _, size in sizes)
    chosen = [event_id for (event_id, _), total in zip(sizes, sums, strict=True) if total <= MOST_BYTES]
    wanted = chosen or [event_id for event_id, _ in sizes[:1]]
    if not wanted:
        return []
    return with_matches(connection, connection.execute(_EVENTS, {"event_ids": wanted}).all())


def reserve(tx: Transaction, trigger: TriggerId, group: str, event_ids: Sequence[str]) -> bool:
    """Keep all others from closing batches of the trigger. False when somebody has closed this one."""
    limits.lock(tx, [_gate(trigger)])
    values: dict[str, Any] = {**_names(trigger), "in_group": group, "event_ids": list(event_ids)}
    return tx.connection.execute(_STILL, values).scalar_one() == len(event_ids)


def end(
    tx: Transaction,
    trigger: TriggerId,
    group: str,
    event_ids: Sequence[str],
    *,
    outcome: Outcome,
    reason: str | None,
    run_id: str | None,
) -> None:
    """Give the events of a batch that was reserved the outcome of the batch."""
    values: dict[str, Any] = {**_names(trigger), "in_group": group, "event_ids": list(event_ids)}
    said: dict[str, Any] = {"new_outcome": outcome.value, "why": reason, "run": run_id}
    tx.connection.execute(_END, values | said)
    settle_outcomes(tx, event_ids)


def ungroup(tx: Transaction, trigger: TriggerId) -> None:
    """Let events go that were gathered for a trigger that gathers no more: each is decided upon by itself."""
    limits.lock(tx, [_gate(trigger)])
    tx.connection.execute(_UNGROUP, _names(trigger))


def _gate(trigger: TriggerId) -> str:
    return "settle:" + "/".join(trigger)


def _names(trigger: TriggerId) -> dict[str, Any]:
    project, pipeline, name = trigger
    return {"in_project": project, "in_pipeline": pipeline, "named": name}
