"""Rows of a DuckDB query as a frame or as batches, by Arrow, with the types of its columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import duckdb
import pandas as pd
import pyarrow as pa

from pipelines.io.duckdb.faults import noted
from pipelines.io.errors import QueryFailed
from pipelines.io.frames import FrameKind, give

_ROWS_PER_BATCH = 122_880  # those of one row group of DuckDB's

_OBJECTS: dict[str, Callable[[str], Any]] = {"JSON": json.loads, "UUID": UUID}


def read_query(
    connection: duckdb.DuckDBPyConnection, query: str, binds: dict[str, Any], frame: FrameKind = "pandas"
) -> Any:
    """Run one statement and return its rows; QueryFailed when it returns none."""
    relation = _relation(connection, query, binds)
    types = [str(kind) for kind in relation.types]
    names = list(relation.columns)
    table = relation.to_arrow_table().rename_columns([str(place) for place in range(len(names))])
    table = _narrowed(table, types)
    if frame != "pandas":
        return give(_named(table, types).rename_columns(names), frame)
    loaded = give(table, "pandas", _objects(table, types))
    loaded.columns = pd.Index(names)
    return loaded


def stream_query(
    connection: duckdb.DuckDBPyConnection, query: str, binds: dict[str, Any]
) -> Iterator[pa.RecordBatch]:
    """Run one statement and yield its rows as batches, an empty one first."""
    relation = _relation(connection, query, binds)
    types = [str(kind) for kind in relation.types]
    reader = relation.to_arrow_reader(_ROWS_PER_BATCH)
    nothing = _named(reader.schema.empty_table(), types)
    yield pa.RecordBatch.from_pylist([], schema=nothing.schema)
    for batch in reader:
        yield from _named(pa.Table.from_batches([batch]), types).to_batches()


def _relation(
    connection: duckdb.DuckDBPyConnection, query: str, binds: dict[str, Any]
) -> duckdb.DuckDBPyRelation:
    with noted(query):
        relation = connection.sql(query, params=binds or None)
    if relation is None:
        raise QueryFailed("the statement returns no rows; use execute() for it")
    return relation


def _named(table: pa.Table, types: Sequence[str]) -> pa.Table:
    """Give columns that DuckDB hands over as text the types that Arrow has names for."""
    for place, kind in enumerate(types):
        if kind in _EXTENSIONS:
            column = table.column(place).combine_chunks()
            table = table.set_column(place, table.column_names[place], _EXTENSIONS[kind](column))
    return table


def _uuids(column: pa.Array) -> pa.Array:
    stored = [None if text is None else UUID(text).bytes for text in column.to_pylist()]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(stored, pa.binary(16)))


_EXTENSIONS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "JSON": lambda column: pa.ExtensionArray.from_storage(pa.json_(), column),
    "UUID": _uuids,
}


def _narrowed(table: pa.Table, types: Sequence[str]) -> pa.Table:
    """Give sums of integers their plain type back, where they fit; DuckDB makes them 128 bits wide."""
    for place, kind in enumerate(types):
        if kind in ("HUGEINT", "UHUGEINT"):
            try:
                table = table.set_column(place, str(place), table.column(place).cast(pa.int64()))
            except pa.ArrowInvalid:
                continue
    return table


def _objects(table: pa.Table, types: Sequence[str]) -> dict[int, list[Any] | pd.Series]:
    found: dict[int, list[Any] | pd.Series] = {}
    for place, kind in enumerate(types):
        column = table.column(place)
        if kind in _OBJECTS:
            make = _OBJECTS[kind]
            found[place] = [None if text is None else make(text) for text in column.to_pylist()]
        elif pa.types.is_nested(column.type):
            found[place] = column.to_pylist()
        elif kind == "INTERVAL":
            found[place] = _durations(column.to_pylist())
    return found


def _durations(values: list[Any]) -> list[Any] | pd.Series:
    """Return time deltas; intervals with months have no fixed length and stay as they are."""
    if any(value is not None and value.months for value in values):
        return values
    return pd.Series(
        [
            pd.NaT if value is None else timedelta(value.days, microseconds=value.nanoseconds // 1000)
            for value in values
        ],
        dtype="timedelta64[us]",
    )
