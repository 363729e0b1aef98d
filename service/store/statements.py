"""Statements that the two databases spell differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy import Column, Insert, Row, Table
from sqlalchemy.dialects import postgresql, sqlite

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"  # a row of a query that is put together at run time


# Ends an INSERT that locks the rows that are there, and leaves them as they are. It takes its rows one by one
# in the order given, and whether it makes a row or locks it makes no difference: those who name their keys
# in order never wait for each other in a circle, and no row can be deleted from under it.
OR_LOCK = "ON CONFLICT (key) DO UPDATE SET key = excluded.key WHERE false"


def insert_if_absent(table: Table, *returning: Column[Any]) -> Mapping[str, Insert]:
    """Return, by dialect, an INSERT that leaves rows alone that are there; it returns only those it made.

    On Postgres it waits for another transaction that is inserting the same key.
    """
    statements: dict[str, Insert] = {
        "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
        "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
    }
    if returning:
        return {dialect: statement.returning(*returning) for dialect, statement in statements.items()}
    return statements


def upsert(table: Table, *changed: str) -> Mapping[str, Insert]:
    """Return, by dialect, an INSERT that overwrites the `changed` columns of a row that is there."""
    key = [column.name for column in table.primary_key]
    on_postgres = postgresql.insert(table)
    on_sqlite = sqlite.insert(table)
    return {
        "postgresql": on_postgres.on_conflict_do_update(
            index_elements=key, set_={name: on_postgres.excluded[name] for name in changed}
        ),
        "sqlite": on_sqlite.on_conflict_do_update(
            index_elements=key, set_={name: on_sqlite.excluded[name] for name in changed}
        ),
    }
