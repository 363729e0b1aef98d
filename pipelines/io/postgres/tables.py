"""Tables as the catalog knows them, and the statements that change them. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.io.columns import TableColumn, double_key
from pipelines.io.errors import ExportRefused
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.postgres.types import kind_of
from pipelines.io.sqltext import Relation, quoted, quoted_list

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(b.typname, t.typname),
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_DEPENDENTS = """
SELECT DISTINCT r.ev_class::regclass::text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
WHERE d.refobjid = to_regclass(%(table)s) AND d.classid = 'pg_rewrite'::regclass AND r.ev_class <> d.refobjid
UNION
SELECT DISTINCT conrelid::regclass::text FROM pg_constraint
WHERE confrelid = to_regclass(%(table)s) AND contype = 'f' AND conrelid <> confrelid
ORDER BY 1
"""

_IS_REFERENCED = (
    "SELECT EXISTS (SELECT FROM pg_constraint WHERE confrelid = to_regclass(%s) AND contype = 'f')"
)


def columns_of(cursor: Cursor, relation: Relation | str) -> tuple[TableColumn, ...] | None:
    """Return the columns of a table in their order, or None when there is no such table."""
    name = relation if isinstance(relation, str) else relation.sql
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
    if not _one(cursor):
        return None
    cursor.execute(_COLUMNS, (name,))
    return tuple(
        TableColumn(column, type_, kind_of(typname), fills)
        for column, type_, typname, fills in cursor.fetchall()
    )


def _one(cursor: Cursor) -> bool:
    row = cursor.fetchone()
    return bool(row and row[0])


def lock_name(cursor: Cursor, name: str) -> None:
    """Hold everyone else who makes, swaps or merges the thing of that name, until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"millrace:{name}",))


def create_schema(cursor: Cursor, schema: str) -> None:
    """Make the schema unless it is there; two at once make it once."""
    cursor.execute("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", (schema,))
    if _one(cursor):
        return
    # Without the lock two transactions that both find none would collide on the catalog's unique index.
    lock_name(cursor, f"schema {schema}")
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")


def create_table(cursor: Cursor, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
    cursor.execute(f"CREATE TABLE {relation.sql} ({_definitions(columns)})")


def create_stage(cursor: Cursor, name: str, columns: Sequence[tuple[str, str]]) -> str:
    """Make a table of this transaction's own, and return its quoted name."""
    cursor.execute(f"CREATE TEMPORARY TABLE {quoted(name)} ({_definitions(columns)}) ON COMMIT DROP")
    return f"pg_temp.{quoted(name)}"


def _definitions(columns: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{quoted(name)} {type_}" for name, type_ in columns)


def empty(cursor: Cursor, relation: Relation) -> None:
    """Take all rows out; views, indexes, grants and references stay."""
    cursor.execute(_IS_REFERENCED, (relation.sql,))
    # TRUNCATE refuses a table that others refer to, even if no row of theirs does.
    statement = "DELETE FROM" if _one(cursor) else "TRUNCATE"
    cursor.execute(f"{statement} {relation.sql}")


def swap(cursor: Cursor, new: Relation, old: Relation, *, cascade: bool) -> None:
    """Put the table `new` in the place of `old`.

    Views and foreign keys on `old` would go with it: without `cascade` they are named in an error.
    """
    if not cascade:
        _refuse_dependents(cursor, old)
    cursor.execute(f"DROP TABLE {old.sql}{' CASCADE' if cascade else ''}")
    cursor.execute(f"ALTER TABLE {new.sql} RENAME TO {quoted(old.name)}")


def _refuse_dependents(cursor: Cursor, relation: Relation) -> None:
    cursor.execute(_DEPENDENTS, {"table": relation.sql})
    dependents = [row[0] for row in cursor.fetchall()]
    if dependents:
        raise ExportRefused(
            f"cannot replace {relation} by a table with other columns: {', '.join(dependents)} depend on it. "
            f"Keep the names and types of its columns, drop what depends on it, or pass cascade_on_drop=True"
        )


def add_rows(cursor: Cursor, source: str, target: Relation, names: Sequence[str]) -> int:
    columns = quoted_list(names)
    cursor.execute(f"INSERT INTO {target.sql} ({columns}) SELECT {columns} FROM {source}")
    return cursor.rowcount


def refuse_double_keys(cursor: Cursor, source: str, keys: Sequence[str], label: Relation) -> None:
    """Raise when two rows of `source` have one key, or a row lacks a part of it."""
    columns = quoted_list(keys)
    lacks = " OR ".join(f"{quoted(key)} IS NULL" for key in keys)
    cursor.execute(
        f"SELECT {columns}, count(*) FROM {source} GROUP BY {columns} HAVING count(*) > 1 OR {lacks} LIMIT 1"
    )
    row = cursor.fetchone()
    if row is not None:
        raise double_key(label, keys, row)


def merge_rows(
    cursor: Cursor, source: str, target: Relation, names: Sequence[str], keys: Sequence[str], *, update: bool
) -> None:
    """Update the rows of `target` whose key is in `source`, and add the others.

    Under a lock that lets readers pass and other writers wait, so that no unique index is needed.
    """
    cursor.execute(f"LOCK TABLE {target.sql} IN SHARE ROW EXCLUSIVE MODE")
    same = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in keys)
    others = [name for name in names if name not in keys]
    if update and others:
        assignments = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in others)
        cursor.execute(f"UPDATE {target.sql} t SET {assignments} FROM {source} s WHERE {same}")
    columns = quoted_list(names)
    cursor.execute(
        f"INSERT INTO {target.sql} ({columns}) SELECT {columns} FROM {source} s "
        f"WHERE NOT EXISTS (SELECT FROM {target.sql} t WHERE {same})"
    )
