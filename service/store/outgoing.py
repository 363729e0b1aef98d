"""Events on their way to addresses outside: added with their event, claimed for a try, settled after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, bindparam, func, select, update

from service.store.bulk import BulkInsert
from service.store.database import Database, Transaction
from service.store.ids import new_id
from service.store.tables import outgoing

TOPIC = "outgoing"

_insert = BulkInsert(outgoing)
_PROJECTS = outgoing.c.project.in_(bindparam("projects", expanding=True))
_PLACE = outgoing.c.project + "/" + outgoing.c.address
_OTHERS = _PLACE.not_in(bindparam("but", expanding=True))
_COLUMNS = tuple(column for column in outgoing.columns)
_NEXT = select(func.min(outgoing.c.next_at)).where(outgoing.c.next_at.is_not(None), _PROJECTS, _OTHERS)
_DUE = (
    select(*_COLUMNS)
    .where(outgoing.c.next_at <= bindparam("now"), _PROJECTS, _OTHERS)
    .order_by(outgoing.c.next_at, outgoing.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    update(outgoing)
    .where(outgoing.c.id == bindparam("the_id"))
    .values(next_at=bindparam("until"), attempts=outgoing.c.attempts + 1)
)
_SETTLE = (
    update(outgoing)
    .where(
        outgoing.c.id == bindparam("the_id"),
        outgoing.c.attempts == bindparam("the_attempt"),
        outgoing.c.next_at.is_not(None),
    )
    .values(
        state=bindparam("new_state"),
        next_at=bindparam("due"),
        error=bindparam("new_error"),
        sent_at=bindparam("at"),
    )
)


class SendState(StrEnum):
    WAITING = "waiting"  # to be tried, or tried again
    SENT = "sent"
    FAILED = "failed"  # given up


@dataclass(frozen=True, slots=True)
class NewOutgoing:
    """An event for one address. `body` is sent as it is, at every try."""

    project: str
    address: str
    event_id: str
    type: str
    body: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way to one address."""

    id: str
    project: str
    address: str
    event_id: str
    type: str
    body: str = field(repr=False)
    state: SendState
    attempts: int
    next_at: datetime | None
    error: str | None
    created_at: datetime
    sent_at: datetime | None

    @property
    def place(self) -> str:
        """Where it goes: the address among those of all projects."""
        return f"{self.project}/{self.address}"


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try came to: SENT, FAILED for good, or WAITING until `again_after`."""

    state: SendState
    error: str | None = None
    again_after: timedelta | None = None


def add(tx: Transaction, new: Sequence[NewOutgoing]) -> None:
    """Put events on their way, and notify "outgoing"."""
    if not new:
        return
    rows = [
        {
            "id": new_id(),
            "project": one.project,
            "address": one.address,
            "event_id": one.event_id,
            "type": one.type,
            "body": one.body,
            "state": SendState.WAITING.value,
            "attempts": 0,
            "next_at": tx.now,
            "error": None,
            "created_at": tx.now,
            "sent_at": None,
        }
        for one in new
    ]
    _insert(tx.connection, rows)
    tx.notify(TOPIC)


def seconds_to_next(database: Database, projects: Sequence[str], *, but: Sequence[str] = ()) -> float | None:
    """Return how long no try is due, by the database's clock; None when none is planned.

    `but`: places that are left out.
    """
    values = {"projects": list(projects), "but": list(but)}
    with database.read() as connection:
        found: datetime | None = connection.execute(_NEXT, values).scalar_one()
        if found is None:
            return None
        return max(0.0, (found - Transaction(connection, database).now).total_seconds())


def claim(
    tx: Transaction, projects: Sequence[str], *, lease: timedelta, limit: int, but: Sequence[str] = ()
) -> list[Outgoing]:
    """Take what is due for a try, except at the places in `but`.

    What is not settled within the lease is due again.
    """
    values = {"now": tx.now, "projects": list(projects), "but": list(but), "most": limit}
    rows = tx.connection.execute(_DUE, values).all()
    if rows:
        until = tx.now + lease
        tx.connection.execute(_CLAIM, [{"the_id": row.id, "until": until} for row in rows])
    return [_value({**row._mapping, "attempts": row.attempts + 1}) for row in rows]


def settle(tx: Transaction, claimed: Outgoing, tried: Tried) -> None:
    """Write down what the try came to, unless another one has begun since."""
    values = {
        "the_id": claimed.id,
        "the_attempt": claimed.attempts,
        "new_state": tried.state.value,
        "due": None if tried.again_after is None else tx.now + tried.again_after,
        "new_error": tried.error,
        "at": tx.now if tried.state is SendState.SENT else None,
    }
    tx.connection.execute(_SETTLE, values)


def listing(
    connection: Connection,
    *,
    state: SendState | None = None,
    event_id: str | None = None,
    limit: int = 50,
    after_id: str | None = None,
) -> list[Outgoing]:
    """Return events and their addresses, newest first. `after_id` is the last id of the page before."""
    query = select(*_COLUMNS).order_by(outgoing.c.id.desc()).limit(limit)
    for column, value in ((outgoing.c.state, state), (outgoing.c.event_id, event_id)):
        if value is not None:
            query = query.where(column == value)
    if after_id is not None:
        query = query.where(outgoing.c.id < after_id)
    return [_value(dict(row._mapping)) for row in connection.execute(query)]


def _value(row: dict[str, object]) -> Outgoing:
    return Outgoing(**{**row, "state": SendState(str(row["state"]))})  # type: ignore[arg-type]
