"""Rows of a query as a frame, by COPY where the statement allows it, with the types of its columns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.csv as arrow_csv
from psycopg2 import errorcodes

from pipelines.io.errors import QueryFailed
from pipelines.io.frames import to_pandas
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.sqltext import quoted

# By object id of the type, which is the same in every Postgres.
_ARROW = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}
_INTERVAL = 1186

# Types whose values Arrow does not hold as such: how to make each from its text.
_OBJECTS: dict[int, Callable[[str], Any]] = {
    17: lambda text: bytes.fromhex(text[2:]),
    114: json.loads,
    1700: Decimal,
    2950: UUID,
    3802: json.loads,
}

# What the server answers to DECLARE for statements that cannot be a cursor, and so not be copied either.
_NO_CURSOR = frozenset(
    {errorcodes.SYNTAX_ERROR, errorcodes.FEATURE_NOT_SUPPORTED, errorcodes.INVALID_CURSOR_DEFINITION}
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    oid: int
    is_array: bool = False


def read_query(cursor: Cursor, query: str) -> pd.DataFrame:
    """Run one statement and return its rows; QueryFailed when it returns none."""
    fields = _describe(cursor, query)
    if fields is None:
        return _fetch(cursor, query)
    if not fields:
        return pd.DataFrame()
    return _frame(fields, _copied(cursor, query, fields))


def _describe(cursor: Cursor, query: str) -> list[_Field] | None:
    """Return the columns of a query without running it, or None when it must be run to be known."""
    cursor.execute("SAVEPOINT millrace_describe")
    try:
        cursor.execute(f"DECLARE millrace_describe NO SCROLL CURSOR FOR {query}")
        cursor.execute("FETCH 0 FROM millrace_describe")
        fields = [_Field(column.name, column.type_code) for column in cursor.description or ()]
        cursor.execute("CLOSE millrace_describe")
    except psycopg2.Error as error:
        if error.pgcode not in _NO_CURSOR:
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT millrace_describe")
        return None
    return _with_arrays(cursor, fields)


def _with_arrays(cursor: Cursor, fields: list[_Field]) -> list[_Field]:
    unknown = [field.oid for field in fields if field.oid not in _ARROW and field.oid not in _OBJECTS]
    if not unknown:
        return fields
    cursor.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s::oid[]) AND typcategory = 'A'", (unknown,))
    arrays = {row[0] for row in cursor.fetchall()}
    return [_Field(field.name, field.oid, field.oid in arrays) for field in fields]


def _copied(cursor: Cursor, query: str, fields: Sequence[_Field]) -> pa.Table:
    target = io.BytesIO()
    cursor.copy_expert(f"COPY ({_flattened(query, fields)}\n) TO STDOUT (FORMAT csv)", target)
    numbers = [str(place) for place in range(len(fields))]
    types = {
        number: _ARROW.get(field.oid, pa.string()) for number, field in zip(numbers, fields, strict=True)
    }
    if not target.tell():
        return pa.schema(types.items()).empty_table()
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(pa.py_buffer(target.getbuffer())),
            arrow_csv.ReadOptions(column_names=numbers),
            # A row whose only column is NULL is an empty line.
            arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types=types,
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        names = ", ".join(
            f"{number} is {field.name!r}" for number, field in zip(numbers, fields, strict=True)
        )
        raise QueryFailed(
            f"a value of the result fits no Python type: {error} ({names}). "
            f"Cast the column to text in the query"
        ) from error


def _flattened(query: str, fields: Sequence[_Field]) -> str:
    """Let arrays come as JSON, which says where one value ends and the next begins."""
    if not any(field.is_array for field in fields):
        return query
    names = [f"c{place}" for place in range(len(fields))]
    columns = ", ".join(
        f"to_jsonb({quoted(name)})" if field.is_array else quoted(name)
        for name, field in zip(names, fields, strict=True)
    )
    return f"SELECT {columns} FROM ({query}\n) AS q ({', '.join(quoted(name) for name in names)})"


def _frame(fields: Sequence[_Field], table: pa.Table) -> pd.DataFrame:
    objects = {
        place: _made(table.column(place), json.loads if field.is_array else _OBJECTS[field.oid])
        for place, field in enumerate(fields)
        if field.is_array or field.oid in _OBJECTS
    }
    frame = to_pandas(table, objects)
    for place, field in enumerate(fields):
        if field.oid == _INTERVAL:
            frame[str(place)] = _durations(frame[str(place)])
    frame.columns = pd.Index([field.name for field in fields])
    return frame


def _made(column: pa.ChunkedArray, make: Callable[[str], Any]) -> list[Any]:
    return [None if text is None else make(text) for text in column.to_pylist()]


def _durations(texts: pd.Series) -> pd.Series:
    """Turn ISO 8601 texts into time deltas; months and years have no fixed length, so they stay text."""
    has_months = texts.str.contains("^P[^T]*[YM]", na=False)
    return texts if has_months.any() else pd.to_timedelta(texts)


def _fetch(cursor: Cursor, query: str) -> pd.DataFrame:
    """Run what cannot be copied (SHOW, EXPLAIN, INSERT ... RETURNING) and take its few rows one by one."""
    cursor.execute(query)
    if cursor.description is None:
        raise QueryFailed("the statement returns no rows; use execute() for it")
    rows = cursor.fetchall()
    columns = [
        pa.array([row[place] for row in rows], _ARROW.get(column.type_code))
        if column.type_code in _ARROW
        else pa.nulls(len(rows))
        for place, column in enumerate(cursor.description)
    ]
    objects = {
        place: [row[place] for row in rows]
        for place, column in enumerate(cursor.description)
        if column.type_code not in _ARROW
    }
    frame = to_pandas(pa.table(columns, names=[str(place) for place in range(len(columns))]), objects)
    frame = frame.infer_objects()
    frame.columns = pd.Index([column.name for column in cursor.description])
    return frame
