"""What an export does to the tables of a DuckDB file, inside a transaction that someone else ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.io.base import IfExists, OnConflict, Policy
from pipelines.io.columns import (
    FrameColumn,
    TableColumn,
    check_columns,
    check_keys,
    double_key,
    example_of,
    whole_numbers,
)
from pipelines.io.duckdb.faults import noted
from pipelines.io.duckdb.frames import readable
from pipelines.io.errors import ExportRefused, TargetExists
from pipelines.io.sqltext import Relation, first_word, only_reads, quoted, quoted_list

FRAME = "millrace_frame"
_STAGE = "millrace_stage"

_KINDS = {
    "BOOLEAN": "boolean",
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "UTINYINT": "integer",
    "USMALLINT": "integer",
    "UINTEGER": "integer",
    "UBIGINT": "integer",
    "UHUGEINT": "integer",
    "FLOAT": "float",
    "DOUBLE": "float",
    "DECIMAL": "numeric",
    "VARCHAR": "text",
    "BLOB": "bytes",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "JSON": "json",
    "UUID": "uuid",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What an export is to do."""

    target: Relation
    policy: Policy


def write_frame(connection: duckdb.DuckDBPyConnection, table: pa.Table, order: Order) -> int:
    """Write an Arrow table, which DuckDB reads where it lies, and return its rows."""
    existing = columns_of(connection, order.target)
    if existing is not None and order.policy.if_exists is not IfExists.REPLACE:
        by_name = {column.name: column.kind for column in existing}
        table = whole_numbers(table, [by_name.get(name) for name in table.column_names], order.target)
    connection.register(FRAME, readable(table))
    columns = _described(connection, f"SELECT * FROM {FRAME}", table)
    return write_rows(connection, f"SELECT * FROM {FRAME}", columns, order)


def forget_frame(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of the frame that was written; outside of transactions: a failed one takes no statement."""
    connection.unregister(FRAME)


def write_query(connection: duckdb.DuckDBPyConnection, query: str, order: Order) -> int:
    """Write the rows of a query without them ever leaving the database."""
    return write_rows(connection, query, _asked_columns(connection, query, order.policy), order)


def _asked_columns(
    connection: duckdb.DuckDBPyConnection, query: str, policy: Policy
) -> Sequence[FrameColumn]:
    """Return the columns of a query, where something depends on them: to ask takes as long as to plan it.

    A replacement takes them as they are.
    """
    if policy.if_exists is IfExists.REPLACE and not policy.keys:
        return ()
    return _described(connection, query, None)


def run(
    connection: duckdb.DuckDBPyConnection, statement: str, values: object = None
) -> list[tuple[object, ...]]:
    """Run one statement to its end and return its rows."""
    with noted(statement):
        rows: list[tuple[object, ...]] = connection.execute(statement, values).fetchall()
    return rows


def touch(connection: duckdb.DuckDBPyConnection, statement: str, values: dict[str, object]) -> int:
    """Run one statement and return how many rows it changed, or would return."""
    if first_word(statement) in ("FROM", "SELECT", "VALUES", "WITH") and only_reads(statement):
        statement = f"SELECT count(*) FROM ({statement}\n)"
    rows = run(connection, statement, values or None)
    return rows[0][0] if len(rows) == 1 and isinstance(rows[0][0], int) else len(rows)


def columns_of(connection: duckdb.DuckDBPyConnection, relation: Relation) -> list[TableColumn] | None:
    """Return the columns of a table in their order, or None when there is no such table."""
    # By way of duckdb_columns() it would take 20 ms: that makes the columns of every view there is.
    known = "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database()"
    names = [relation.schema, relation.name]
    if not run(connection, f"{known} AND schema_name = ? AND table_name = ?", names):
        return None
    columns = "SELECT name, type, dflt_value IS NOT NULL FROM pragma_table_info(?) ORDER BY cid"
    found = run(connection, columns, [relation.sql])
    return [TableColumn(str(n), str(t), kind_of(str(t)), bool(fills)) for n, t, fills in found]


def kind_of(type_name: str) -> str:
    """Return what a type of DuckDB's is about, in the words of `pipelines.io.columns`."""
    plain = re.sub(r"\(.*\)$", "", type_name)
    if type_name.endswith("]") or plain in ("STRUCT", "MAP", "UNION"):
        return "json"
    return _KINDS.get(plain, "other")


def _described(
    connection: duckdb.DuckDBPyConnection, query: str, table: pa.Table | None
) -> list[FrameColumn]:
    return [_column(name, type_name, table) for name, type_name in described(connection, query)]


def described(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[str, str]]:
    """Return the columns of a query with the names of their types."""
    return [(str(row[0]), str(row[1])) for row in run(connection, f"DESCRIBE {query}")]


def _column(name: str, type_name: str, table: pa.Table | None) -> FrameColumn:
    if table is None:
        kind = kind_of(type_name)
        return FrameColumn(name, type_name, None if kind == "other" else kind, lambda: "from the query")
    column = table.column(name)
    kind_or_nothing = None if column.null_count == len(column) else kind_of(type_name)
    return FrameColumn(name, type_name, kind_or_nothing, lambda: example_of(column))


def write_rows(
    connection: duckdb.DuckDBPyConnection, query: str, columns: Sequence[FrameColumn], order: Order
) -> int:
    """Write the rows of a query, which is scanned once, under the order's policy."""
    check_keys(order.target, order.policy, columns)
    _refuse_nothing_types(columns, order.target)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(order.target.schema)}")
    if order.policy.if_exists is IfExists.REPLACE:  # whatever is there
        return _count(connection, f"CREATE OR REPLACE TABLE {order.target.sql} AS {query}")
    existing = columns_of(connection, order.target)
    if existing is None:
        return _first(connection, query, order)
    match order.policy.if_exists:
        case IfExists.FAIL:
            raise TargetExists(f"{order.target} exists already, and the export says if_exists='fail'")
        case IfExists.APPEND:
            check_columns(order.target, columns, existing)
            _check_scales(order.target, columns, existing)
            return _count(connection, f"INSERT INTO {order.target.sql} BY NAME {query}")
        case IfExists.MERGE:
            check_columns(order.target, columns, existing)
            _check_scales(order.target, columns, existing)
            return _merge(connection, query, columns, order)


def _refuse_nothing_types(columns: Sequence[FrameColumn], target: Relation) -> None:
    for column in columns:
        if column.type == '"NULL"' and column.kind is not None:
            raise ExportRefused(
                f"cannot write to {target}: column {column.name!r} of the query has no type; cast it"
            )


def _check_scales(target: Relation, columns: Sequence[FrameColumn], existing: Sequence[TableColumn]) -> None:
    """DuckDB rounds decimals that are too fine for their column, and says nothing."""
    scales = {column.name: (_scale(column.type), column.type) for column in existing}
    for column in columns:
        there, there_type = scales[column.name]
        here = _scale(column.type)
        if here is not None and there is not None and here > there:
            raise ExportRefused(
                f"cannot write to {target}: column {column.name!r} is {there_type} there "
                f"and {column.type} in the frame ({column.example()}): "
                f"digits would be lost. Round the values, or replace the table"
            )


def _scale(type_name: str) -> int | None:
    match = re.fullmatch(r"DECIMAL\(\d+,\s*(\d+)\)", type_name)
    return int(match[1]) if match else None


def _first(connection: duckdb.DuckDBPyConnection, query: str, order: Order) -> int:
    rows = _count(connection, f"CREATE TABLE {order.target.sql} AS {query}")
    if order.policy.if_exists is IfExists.MERGE:
        _refuse_double_keys(connection, order.target.sql, order)
    return rows


def _count(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    rows = run(connection, statement)
    return int(str(rows[0][0])) if rows else 0


def _merge(
    connection: duckdb.DuckDBPyConnection, query: str, columns: Sequence[FrameColumn], order: Order
) -> int:
    rows = _count(connection, f"CREATE OR REPLACE TEMPORARY TABLE {_STAGE} AS {query}")
    _refuse_double_keys(connection, _STAGE, order)
    names, keys = [column.name for column in columns], order.policy.keys
    same = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in keys)
    others = [name for name in names if name not in keys]
    if order.policy.on_conflict is OnConflict.UPDATE and others:
        changes = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in others)
        run(connection, f"UPDATE {order.target.sql} AS t SET {changes} FROM {_STAGE} AS s WHERE {same}")
    listed = quoted_list(names)
    run(
        connection,
        f"INSERT INTO {order.target.sql} ({listed}) SELECT {listed} FROM {_STAGE} AS s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {order.target.sql} AS t WHERE {same})",
    )
    run(connection, f"DROP TABLE {_STAGE}")
    return rows


def _refuse_double_keys(connection: duckdb.DuckDBPyConnection, source: str, order: Order) -> None:
    keys = order.policy.keys
    listed = quoted_list(keys)
    # As text: the driver needs yet another library to hand over a time with a zone.
    texts = ", ".join(f"{quoted(key)}::VARCHAR" for key in keys)
    lacks = " OR ".join(f"{quoted(key)} IS NULL" for key in keys)
    found = run(
        connection,
        f"SELECT {texts}, count(*) FROM {source} GROUP BY {listed} HAVING count(*) > 1 OR {lacks} LIMIT 1",
    )
    if found:
        raise double_key(order.target, keys, found[0])
