"""Brings the tables to the version this code knows, once, whichever process comes first."""

from __future__ import annotations

from importlib import import_module

from sqlalchemy import Connection, inspect, text

from service.errors import StoreVersionError
from service.store.commits import Commit
from service.store.database import Database, Transaction
from service.store.keys import make_secret

HEAD = "0004"  # the newest migration; a test holds it to the folder
VERSION_TABLE = "schema_version"
_LOCK_NUMBER = 0x6D696C6C72616365  # "millrace"; all its processes use the same one


def migrate(database: Database) -> None:
    """Create or upgrade the tables. Cheap when there is nothing to do; safe in many processes at once.

    Raises StoreVersionError when a newer Millrace was here.
    """
    with database.read() as connection:
        if _version(connection) == HEAD:
            return
    database.write(Commit.MIGRATE, _upgrade)


def _upgrade(tx: Transaction) -> None:
    if tx.database.is_postgres:
        # SQLite's write transaction excludes others by itself.
        tx.connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    version = _version(tx.connection)
    if version == HEAD:
        return
    # Loaded like a plug-in: Alembic costs 120 ms and 8 MB, and of all processes that pass here few need it.
    runner = import_module("service.store.migrations.runner")
    if version is not None and version not in runner.known_versions():
        raise StoreVersionError(tx.database.name, version, HEAD)
    runner.upgrade(tx.connection)
    make_secret(tx)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()
