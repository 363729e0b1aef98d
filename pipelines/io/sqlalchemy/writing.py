"""An export, step by step, inside a transaction that someone else ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

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
from pipelines.io.errors import ExportRefused, TargetExists
from pipelines.io.sqlalchemy.dialect import ColumnType, Dialect, batches_of
from pipelines.io.sqlalchemy.session import Session
from pipelines.io.sqltext import Relation

Rows: TypeAlias = "pa.Table | pa.RecordBatchReader"  # a reader is taken batch by batch, once

_QUERY = "millrace_query"
_STAGE = "millrace_stage"


@dataclass(frozen=True)
class Order:
    """What an export is to do."""

    target: Relation
    policy: Policy
    overwrite_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """What is written: its columns, and how its rows get into a table of a quoted name."""

    columns: Sequence[FrameColumn]
    pour: Callable[[str, Sequence[TableColumn] | None], int]

    @property
    def definitions(self) -> list[tuple[str, str]]:
        return [(column.name, column.type) for column in self.columns]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def write_frame(session: Session, rows: Rows, order: Order) -> int:
    """Write Arrow rows and return how many there were."""
    columns = _frame_columns(session.dialect, rows, order)

    def pour(table: str, existing: Sequence[TableColumn] | None) -> int:
        by_name = {column.name: column.kind for column in existing or ()}
        kinds = [by_name.get(column.name, column.kind) for column in columns]
        return _insert_all(session, rows, table, kinds, order.target)

    return _write(session, order, _Source(columns, pour))


def write_query(session: Session, query: str, order: Order) -> int:
    """Write the rows of a query without them ever leaving the database."""
    # Run first, and whole: the query may read the very table that it replaces.
    stage = session.dialect.stage_query(session, _QUERY, query)
    columns = [
        FrameColumn(
            column.name, column.type, None if column.kind == "other" else column.kind, lambda: "the query"
        )
        for column in session.dialect.staged_columns(session, _QUERY)
    ]
    listed = session.dialect.listed([column.name for column in columns])

    def pour(table: str, _: Sequence[TableColumn] | None) -> int:
        statement = f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {stage}"
        return int(session.execute(statement).rowcount)

    return _write(session, order, _Source(columns, pour))


def stage_frame(session: Session, name: str, rows: Rows) -> None:
    """Make rows a table that only this session sees."""
    label = Relation("", name)
    columns = _frame_columns(session.dialect, rows, Order(label, Policy(IfExists.FAIL)))
    stage = session.dialect.create_stage(session, name, [(column.name, column.type) for column in columns])
    _insert_all(session, rows, stage, [column.kind for column in columns], label)


def _insert_all(
    session: Session, rows: Rows, table: str, kinds: Sequence[str | None], label: Relation
) -> int:
    count = 0
    for batch in batches_of(_fitted(rows, kinds, label), session.dialect.rows_per_batch):
        session.dialect.insert(session, table, batch, kinds)
        count += batch.num_rows
    return count


def _fitted(rows: Rows, kinds: Sequence[str | None], label: Relation) -> Iterator[pa.RecordBatch]:
    """Yield batches whose numbers are whole where the table's columns take whole numbers."""
    if isinstance(rows, pa.Table):
        yield from whole_numbers(rows, kinds, label).to_batches()
        return
    for batch in rows:
        yield from whole_numbers(pa.Table.from_batches([batch]), kinds, label).to_batches()


def _frame_columns(dialect: Dialect, rows: Rows, order: Order) -> list[FrameColumn]:
    unknown = sorted(set(order.overwrite_types) - set(rows.schema.names))
    if unknown:
        raise ExportRefused(f"overwrite_types names {', '.join(unknown)}, which the frame does not have")
    return [_frame_column(dialect, name, rows, order) for name in rows.schema.names]


def _frame_column(dialect: Dialect, name: str, rows: Rows, order: Order) -> FrameColumn:
    found = dialect.column_type(name, rows.schema.field(name).type, is_key=name in order.policy.keys)
    name_of_type = order.overwrite_types.get(name, found.name)
    if not isinstance(rows, pa.Table):
        return FrameColumn(name, name_of_type, found.kind, lambda: "in a stream")
    column = rows.column(name)
    return FrameColumn(name, name_of_type, _kind_in(column, found), lambda: example_of(column))


def _kind_in(column: pa.ChunkedArray, found: ColumnType) -> str | None:
    return None if column.null_count == len(column) else found.kind


def _write(session: Session, order: Order, source: _Source) -> int:
    dialect = session.dialect
    dialect.create_schema(session, order.target.schema)
    check_keys(order.target, order.policy, source.columns)
    existing = dialect.columns_of(session, order.target)
    if existing is None or order.policy.if_exists is not IfExists.APPEND:
        session.lock(f"table {order.target}")
        existing = dialect.columns_of(session, order.target)
    if existing is None:
        return _make_anew(session, order, source)
    match order.policy.if_exists:
        case IfExists.FAIL:
            raise TargetExists(f"{order.target} exists already, and the export says if_exists='fail'")
        case IfExists.APPEND:
            _check(order, source, existing)
            return source.pour(dialect.relation(order.target), existing)
        case IfExists.REPLACE:
            return _replace(session, order, source, existing)
        case IfExists.MERGE:
            _check(order, source, existing)
            return _merge(session, order, source, existing)


def _make_anew(session: Session, order: Order, source: _Source) -> int:
    """Fill a new table; aside, where making one would end the transaction."""
    dialect, place = session.dialect, order.target
    if dialect.ddl_commits:
        place = session.aside(order.target)
        # Left by an attempt that died before it was filled; or by nobody.
        session.execute(f"DROP TABLE IF EXISTS {dialect.relation(place)}")
        session.swaps.append((place, order.target))
    dialect.create_table(session, dialect.relation(place), source.definitions)
    rows = source.pour(dialect.relation(place), None)
    if order.policy.if_exists is IfExists.MERGE:
        _refuse_double_keys(session, dialect.relation(place), order)
        dialect.add_unique_index(session, place, order.policy.keys)
    return rows


def _replace(session: Session, order: Order, source: _Source, existing: Sequence[TableColumn]) -> int:
    """Refill a table of the same columns, so that all that hangs on it stays; else put a new one there."""
    if _have_same_types(source.columns, existing):
        session.dialect.empty(session, order.target)
        return source.pour(session.dialect.relation(order.target), existing)
    session.dialect.refuse_dependents(session, order.target)
    if not session.dialect.ddl_commits:
        session.execute(f"DROP TABLE {session.dialect.relation(order.target)}")
    return _make_anew(session, order, source)


def _have_same_types(columns: Sequence[FrameColumn], existing: Sequence[TableColumn]) -> bool:
    there = {column.name: column.type.lower() for column in existing}
    # A column of only nulls fits every type.
    given = {
        column.name: there.get(column.name) if column.kind is None else column.type.lower()
        for column in columns
    }
    return given == there


def _merge(session: Session, order: Order, source: _Source, existing: Sequence[TableColumn]) -> int:
    dialect, keys = session.dialect, order.policy.keys
    types = {column.name: column.type for column in existing}
    stage = dialect.create_stage(session, _STAGE, [(name, types[name]) for name in source.names])
    rows = source.pour(stage, existing)
    _refuse_double_keys(session, stage, order)
    others = [name for name in source.names if name not in keys]
    if order.policy.on_conflict is OnConflict.UPDATE and others:
        dialect.update_from(session, stage, order.target, keys, others)
    target = dialect.relation(order.target)
    listed = dialect.listed(source.names)
    given = ", ".join(f"s.{dialect.quoted(name)}" for name in source.names)
    session.execute(
        f"INSERT INTO {target} ({listed}) SELECT {given} FROM {stage} s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {dialect.same_key('t', 's', keys)})"
    )
    return rows


def _refuse_double_keys(session: Session, table: str, order: Order) -> None:
    keys = order.policy.keys
    listed = session.dialect.listed(keys)
    lacks = " OR ".join(f"{session.quoted(key)} IS NULL" for key in keys)
    found = session.execute(
        f"SELECT {listed}, count(*) FROM {table} GROUP BY {listed} "
        f"HAVING count(*) > 1 OR {lacks} ORDER BY count(*) DESC"
    ).first()
    if found is not None:
        raise double_key(order.target, keys, tuple(found))


def _check(order: Order, source: _Source, existing: Sequence[TableColumn]) -> None:
    kinds = {column.name: column.kind or "text" for column in source.columns}
    # A column of SQLite may have no type; it takes everything.
    typed = [column if column.type else replace(column, kind=kinds[column.name]) for column in existing]
    check_columns(order.target, source.columns, typed)
    scales = {column.name: (_scale(column.type), column.type) for column in existing}
    for column in source.columns:
        here, (there, there_type) = _scale(column.type), scales[column.name]
        if here is not None and there is not None and here > there:
            raise ExportRefused(
                f"cannot write to {order.target}: column {column.name!r} is {there_type} there "
                f"and {column.type} in the frame ({column.example()}): digits would be lost. "
                f"Round the values, or replace the table"
            )


def _scale(type_name: str) -> int | None:
    match = re.search(r"(?:DECIMAL|NUMERIC)\w*\(\d+,\s*(\d+)\)", type_name, re.IGNORECASE)
    return int(match[1]) if match else None
