"""Rows of a DuckDB query as a frame, by Arrow, with the types of its columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import duckdb
import pandas as pd
import pyarrow as pa

from pipelines.io.errors import QueryFailed
from pipelines.io.frames import to_pandas

_OBJECTS: dict[str, Callable[[str], Any]] = {"JSON": json.loads, "UUID": UUID}


def read_query(connection: duckdb.DuckDBPyConnection, query: str, binds: dict[str, Any]) -> pd.DataFrame:
    """Run one statement and return its rows; QueryFailed when it returns none."""
    relation = connection.sql(query, params=binds or None)
    if relation is None:
        raise QueryFailed("the statement returns no rows; use execute() for it")
    types = [str(kind) for kind in relation.types]
    names = list(relation.columns)
    table = relation.to_arrow_table().rename_columns([str(place) for place in range(len(names))])
    frame = to_pandas(_narrowed(table, types), _objects(table, types))
    frame.columns = pd.Index(names)
    return frame


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
