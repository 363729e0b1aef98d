"""Which keys of a source have had their event: a long listing need not be recorded again and again."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, select

from service.store.database import Database, Transaction
from service.store.keys import Digester
from service.store.tables import event_keys

_KNOWN = select(event_keys.c.digest).where(event_keys.c.digest.in_(bindparam("digests", expanding=True)))


def known_keys(database: Database, project: str, source: str, keys: Collection[str]) -> frozenset[str]:
    """Return those of `keys` that an event of the source has had, expired ones included.

    An answer may be old by the time it is used: it saves work, and decides nothing.
    """
    with database.read() as connection:
        digester = Digester(Transaction(connection, database))
        by_digest = {digester.digest(project, source, key): key for key in keys}
        found = connection.execute(_KNOWN, {"digests": list(by_digest)}).scalars()
        return frozenset(by_digest[bytes(digest)] for digest in found)
