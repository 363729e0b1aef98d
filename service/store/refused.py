"""Deliveries that were refused: a bounded ring, so that strangers cannot fill the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from service.store.database import Transaction
from service.store.tables import refusals

RING_SIZE = 10_000

_INSERT = insert(refusals)
_NEWEST = select(func.max(refusals.c.id))
_CUT = delete(refusals).where(refusals.c.id <= bindparam("last"))


@dataclass(frozen=True, slots=True)
class NewRefusal:
    """A delivery that no event came of. `road` is the address it was sent to, `remote` who sent it."""

    at: datetime
    road: str
    reason: str
    remote: str = ""
    project: str | None = None


def record(tx: Transaction, new: Sequence[NewRefusal], *, ring_size: int = RING_SIZE) -> list[None]:
    """Write refusals and drop the oldest beyond the ring. Answers each in its place, for `GroupCommit`."""
    if new:
        tx.connection.execute(_INSERT, [asdict(refusal) for refusal in new])
        newest = tx.connection.execute(_NEWEST).scalar_one()
        tx.connection.execute(_CUT, {"last": newest - ring_size})
    return [None] * len(new)


def listing(
    connection: Connection, *, limit: int = 50, after_id: int | None = None
) -> list[tuple[int, NewRefusal]]:
    """Return refusals newest first, each with its number, which is the cursor."""
    query = (
        select(
            refusals.c.id,
            refusals.c.at,
            refusals.c.road,
            refusals.c.reason,
            refusals.c.remote,
            refusals.c.project,
        )
        .order_by(refusals.c.id.desc())
        .limit(limit)
    )
    if after_id is not None:
        query = query.where(refusals.c.id < after_id)
    return [(row.id, NewRefusal(*row[1:])) for row in connection.execute(query)]
