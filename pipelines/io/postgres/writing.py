"""An export, step by step, inside a transaction that someone else ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.io.base import IfExists, OnConflict, Policy
from pipelines.io.columns import FrameColumn, TableColumn, check_columns, check_keys, example_of
from pipelines.io.errors import ExportRefused, TargetExists
from pipelines.io.postgres import tables
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.postgres.copying import Rows, copy_in
from pipelines.io.postgres.types import sql_type
from pipelines.io.sqltext import Relation, quoted_list


@dataclass(frozen=True)
class Order:
    """What an export is to do."""

    target: Relation
    policy: Policy
    cascade: bool = False
    overwrite_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def aside(self) -> Relation:
        """Where a new table is filled before it takes its place; the name's lock keeps others away."""
        return Relation(self.target.schema, f"millrace_new_{self.target.name}"[:63])


def write_frame(cursor: Cursor, data: Rows, order: Order) -> int:
    """Write an Arrow table, or batches as they come, by COPY and return the rows."""
    columns = frame_columns(data, order.overwrite_types)

    def create(relation: Relation) -> None:
        tables.create_table(cursor, relation, [(column.name, column.type) for column in columns])

    def pour(target: str, existing: Sequence[TableColumn] | None) -> int:
        return copy_in(cursor, data, target, _kinds(columns, existing), order.target)

    return _write(cursor, order, columns, create, pour)


def write_query(cursor: Cursor, query: str, order: Order) -> int:
    """Write the rows of a query without them ever leaving the database."""
    # Run first, and whole: the query may read the very table that it replaces.
    cursor.execute(f"CREATE TEMPORARY TABLE millrace_query ON COMMIT DROP AS {query}")
    made = tables.columns_of(cursor, "pg_temp.millrace_query") or ()
    columns = [
        FrameColumn(
            column.name, column.type, None if column.kind == "other" else column.kind, lambda: "the query"
        )
        for column in made
    ]
    names = [column.name for column in columns]

    def create(relation: Relation) -> None:
        tables.create_table(cursor, relation, [(column.name, column.type) for column in columns])

    def pour(target: str, existing: Sequence[TableColumn] | None) -> int:
        listed = quoted_list(names)
        cursor.execute(f"INSERT INTO {target} ({listed}) SELECT {listed} FROM pg_temp.millrace_query")
        return cursor.rowcount

    return _write(cursor, order, columns, create, pour)


def stage_frame(cursor: Cursor, name: str, data: Rows) -> None:
    """Make a frame a table that only this transaction sees."""
    columns = frame_columns(data, {})
    stage = tables.create_stage(cursor, name, [(column.name, column.type) for column in columns])
    copy_in(cursor, data, stage, _kinds(columns, None), Relation("pg_temp", name))
    cursor.execute(f"ANALYZE {stage}")  # the planner would take it for a table of a few rows


def frame_columns(data: Rows, overwrite_types: Mapping[str, str]) -> list[FrameColumn]:
    unknown = sorted(set(overwrite_types) - set(data.schema.names))
    if unknown:
        raise ExportRefused(f"overwrite_types names {', '.join(unknown)}, which the frame does not have")
    return [_frame_column(field, data, overwrite_types) for field in data.schema]


def _frame_column(field: pa.Field, data: Rows, overwrite_types: Mapping[str, str]) -> FrameColumn:
    found = sql_type(field.name, field.type)
    type_ = overwrite_types.get(field.name, found.name)
    if not isinstance(data, pa.Table):  # nothing of it is there yet
        return FrameColumn(field.name, type_, found.kind, lambda: "in batches that come later")
    column = data.column(field.name)
    kind = None if column.null_count == len(column) else found.kind
    return FrameColumn(field.name, type_, kind, lambda: example_of(column))


def _kinds(columns: Sequence[FrameColumn], existing: Sequence[TableColumn] | None) -> list[str | None]:
    by_name = {column.name: column.kind for column in existing or ()}
    return [by_name.get(column.name, column.kind) for column in columns]


Create = Callable[[Relation], None]
Pour = Callable[[str, "Sequence[TableColumn] | None"], int]


def _write(cursor: Cursor, order: Order, columns: Sequence[FrameColumn], create: Create, pour: Pour) -> int:
    tables.create_schema(cursor, order.target.schema)
    check_keys(order.target, order.policy, columns)
    existing = tables.columns_of(cursor, order.target)
    if existing is None or order.policy.if_exists is not IfExists.APPEND:
        tables.lock_name(cursor, f"table {order.target}")
        existing = tables.columns_of(cursor, order.target)
    if existing is None:
        return _first(cursor, order, create, pour)
    match order.policy.if_exists:
        case IfExists.FAIL:
            raise TargetExists(f"{order.target} exists already, and the export says if_exists='fail'")
        case IfExists.APPEND:
            check_columns(order.target, columns, existing)
            return pour(order.target.sql, existing)
        case IfExists.REPLACE:
            return _replace(cursor, order, columns, existing, create, pour)
        case IfExists.MERGE:
            check_columns(order.target, columns, existing)
            return _merge(cursor, order, columns, existing, pour)


def _first(cursor: Cursor, order: Order, create: Create, pour: Pour) -> int:
    create(order.target)
    rows = pour(order.target.sql, None)
    if order.policy.if_exists is IfExists.MERGE:
        tables.refuse_double_keys(cursor, order.target.sql, order.policy.keys, order.target)
        cursor.execute(f"CREATE UNIQUE INDEX ON {order.target.sql} ({quoted_list(order.policy.keys)})")
    return rows


def _replace(
    cursor: Cursor,
    order: Order,
    columns: Sequence[FrameColumn],
    existing: Sequence[TableColumn],
    create: Create,
    pour: Pour,
) -> int:
    """Refill a table of the same columns, so that all that hangs on it stays; else swap in a new one."""
    if _have_same_types(columns, existing):
        tables.empty(cursor, order.target)
        return pour(order.target.sql, existing)
    create(order.aside)
    rows = pour(order.aside.sql, None)
    tables.swap(cursor, order.aside, order.target, cascade=order.cascade)
    return rows


def _have_same_types(columns: Sequence[FrameColumn], existing: Sequence[TableColumn]) -> bool:
    there = {column.name: column.type for column in existing}
    # A column of only nulls has no type of its own ("text" is a guess), and fits every column.
    given = {
        column.name: there.get(column.name) if column.kind is None and column.type == "text" else column.type
        for column in columns
    }
    return given == there


def _merge(
    cursor: Cursor,
    order: Order,
    columns: Sequence[FrameColumn],
    existing: Sequence[TableColumn],
    pour: Pour,
) -> int:
    types = {column.name: column.type for column in existing}
    stage = tables.create_stage(
        cursor, "millrace_stage", [(column.name, types[column.name]) for column in columns]
    )
    rows = pour(stage, existing)
    tables.refuse_double_keys(cursor, stage, order.policy.keys, order.target)
    tables.merge_rows(
        cursor,
        stage,
        order.target,
        [column.name for column in columns],
        order.policy.keys,
        update=order.policy.on_conflict is OnConflict.UPDATE,
    )
    return rows
