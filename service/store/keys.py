"""Digests of keys: what remains of an event when its payload has expired."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import select

from service.store.database import Transaction
from service.store.statements import insert_if_absent
from service.store.tables import meta

SECRET = "key_secret"  # noqa: S105 - the name of a row
_INSERT = insert_if_absent(meta)
_VALUE = select(meta.c.value).where(meta.c.name == SECRET)


def make_secret(tx: Transaction) -> None:
    """Give a new store a secret of its own: without it, digests could be found by trying likely keys."""
    row = {"name": SECRET, "value": secrets.token_hex(32)}
    tx.connection.execute(_INSERT[tx.database.dialect], row)


class Digester:
    """Turns names into digests that mean something in this store only."""

    def __init__(self, tx: Transaction) -> None:
        facts = tx.database.facts
        if SECRET not in facts:
            facts[SECRET] = tx.connection.execute(_VALUE).scalar_one()
        self._keyed = hmac.new(bytes.fromhex(facts[SECRET]), digestmod=hashlib.sha256)

    def digest(self, *parts: str) -> bytes:
        # surrogatepass: a key that cannot be stored must still fail alone, later, and not here for all.
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        keyed = self._keyed.copy()
        for part in encoded:
            # Length before text, so that ("ab", "c") and ("a", "bc") differ.
            keyed.update(len(part).to_bytes(8, "big") + part)
        return keyed.digest()
