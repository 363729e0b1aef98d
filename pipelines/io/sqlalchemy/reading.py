"""Rows of a query as Arrow batches, with the types of their columns where the driver tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from pipelines.io.errors import QueryFailed
from pipelines.io.frames import FrameKind, give, to_arrow
from pipelines.io.sqlalchemy import values
from pipelines.io.sqlalchemy.dialect import ResultColumn
from pipelines.io.sqlalchemy.session import Session

_ROWS = 20_000  # of one batch


def read_query(session: Session, query: str, binds: Mapping[str, Any], frame: FrameKind) -> Any:
    """Run one statement and return all its rows; QueryFailed when it returns none."""
    columns, batches = _open(session, query, binds)
    table = _joined([_arrays(columns, rows) for rows in batches] or [_arrays(columns, [])])
    numbered = table.rename_columns([str(place) for place in range(table.num_columns)])
    names = [column.name for column in columns]
    if frame != "pandas":
        return give(numbered.rename_columns(names), frame)
    result = give(numbered, frame, _objects(numbered))
    result.columns = pd.Index(names)
    return result


def read_batches(session: Session, query: str, binds: Mapping[str, Any]) -> pa.RecordBatchReader:
    """Run one statement and return its rows batch by batch; the first batch tells the types."""
    columns, batches = _open(session, query, binds)
    first = _arrays(columns, next(batches, []))
    schema = pa.schema([(column.name, of.type) for column, of in zip(columns, first, strict=True)])

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_arrays(first, schema=schema)
        row = len(first[0]) if first else 0
        for rows in batches:
            arrays = [
                _as(schema.field(place), array, row) for place, array in enumerate(_arrays(columns, rows))
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            row += len(rows)

    return pa.RecordBatchReader.from_batches(schema, all_batches())


def _open(
    session: Session, query: str, binds: Mapping[str, Any]
) -> tuple[Sequence[ResultColumn], Iterator[Sequence[Sequence[Any]]]]:
    declared = session.dialect.declared(session, query, binds)
    result = session.dialect.result(session, query, binds)
    if not result.returns_rows:
        raise QueryFailed("the statement returns no rows; use execute() for it")
    return session.dialect.described(session, result.cursor, declared), _fetched(result)


def _fetched(result: sa.CursorResult[Any]) -> Iterator[Sequence[Sequence[Any]]]:
    with result:
        while rows := result.fetchmany(_ROWS):
            yield rows


def _arrays(columns: Sequence[ResultColumn], rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
    found = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return [_array(column, list(given)) for column, given in zip(columns, found, strict=True)]


def _array(column: ResultColumn, given: list[Any]) -> pa.Array:
    try:
        return column.array(given) if column.array is not None else seen(given)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise QueryFailed(
            f"column {column.name!r} of the result holds a value that does not fit its type: {error}. "
            f"Cast it in the query"
        ) from error


def seen(given: Sequence[Any]) -> pa.Array:
    """Make an array of the one type that these Python values have."""
    try:
        return pa.array(given)
    except (pa.ArrowException, TypeError, OverflowError):
        return to_arrow(pd.DataFrame({"c": pd.Series(given, dtype=object)})).column(0).combine_chunks()


def _joined(parts: Sequence[Sequence[pa.Array]]) -> pa.Table:
    tables = [
        pa.table(list(arrays), names=[str(place) for place in range(len(arrays))])
        for arrays in parts
        if arrays
    ]
    if not tables:
        return pa.table({})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise QueryFailed(f"a column of the result has values of several types: {error}") from error


def _as(field: pa.Field, array: pa.Array, row: int) -> pa.Array:
    if array.type.equals(field.type):
        return array
    try:
        return array.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise QueryFailed(
            f"column {field.name!r} was {field.type} in the first rows, and is {array.type} "
            f"from row {row} on: {error}. Cast it in the query"
        ) from error


def _objects(table: pa.Table) -> dict[int, list[Any]]:
    """Return the Python values of columns that a pandas frame has no type for."""
    makers: Mapping[pa.DataType, Callable[[pa.ChunkedArray], list[Any]]] = {
        pa.json_(): values.loaded_json,
        pa.uuid(): _uuids,
    }
    return {
        place: makers[column.type](column)
        for place, column in enumerate(table.columns)
        if column.type in makers
    }


def _uuids(column: pa.ChunkedArray) -> list[UUID | None]:
    return [
        None if value is None else UUID(bytes=value)
        for chunk in column.chunks
        for value in chunk.storage.to_pylist()
    ]
