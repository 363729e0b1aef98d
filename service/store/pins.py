"""Pinned sources: each version of a pipeline once, by its hash."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from service.store.database import Transaction
from service.store.statements import insert_if_absent
from service.store.tables import pins
from service.store.values import Pin

_INSERT = insert_if_absent(pins)
# The key-share lock keeps `prune` from taking the row away before our run that names it is committed.
_KNOWN = (
    select(pins.c.hash)
    .where(pins.c.hash.in_(bindparam("hashes", expanding=True)))
    .with_for_update(read=True, key_share=True)
)
_LOAD = select(pins.c.hash, pins.c.sources, pins.c.blocks).where(
    pins.c.hash.in_(bindparam("hashes", expanding=True))
)


def keep(tx: Transaction, wanted: Sequence[Pin]) -> None:
    """Store the pins that are not there yet."""
    by_hash = {pin.hash: pin for pin in wanted}
    if not by_hash:
        return
    known = set(tx.connection.execute(_KNOWN, {"hashes": sorted(by_hash)}).scalars())
    rows = [
        {"hash": pin.hash, "sources": dict(pin.sources), "blocks": [list(block) for block in pin.blocks],
         "created_at": tx.now}
        for pin in sorted(by_hash.values(), key=lambda pin: pin.hash)
        if pin.hash not in known
    ]  # fmt: skip
    if rows:
        tx.connection.execute(_INSERT[tx.database.dialect], rows)


def load(tx: Transaction, hashes: Sequence[str]) -> dict[str, Pin]:
    """Return the pins that are stored, by hash."""
    if not hashes:
        return {}
    return {
        row.hash: Pin(row.hash, row.sources, tuple((name, kind) for name, kind in row.blocks))
        for row in tx.connection.execute(_LOAD, {"hashes": sorted(set(hashes))})
    }
