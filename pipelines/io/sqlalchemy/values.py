"""Values of Arrow columns as drivers take them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.io.frames import json_array


def plain(name: str, column: pa.Array) -> pa.Array:
    """Give a column a type without others within: categories as their values, nested values as JSON."""
    of = column.type
    if pa.types.is_dictionary(of):
        return plain(name, column.cast(of.value_type))
    if of == pa.uuid():
        texts = [None if value is None else str(UUID(bytes=value)) for value in column.storage.to_pylist()]
        return pa.array(texts, pa.string())
    if of == pa.json_():
        return column.storage.cast(pa.string())
    if pa.types.is_nested(of):
        return json_array(name, column.to_pylist()).storage
    if pa.types.is_null(of):
        return column.cast(pa.string())
    return column


def moments(column: pa.Array) -> pa.Array:
    """Return moments as texts in UTC with microseconds: `2024-01-31 05:00:00.000000`."""
    of = column.type
    plain_moments = column.cast(pa.timestamp(of.unit)) if of.tz else column
    return _micros(plain_moments).cast(pa.string())


def _micros(column: pa.Array) -> pa.Array:
    if column.type.unit != "ns":
        return column.cast(pa.timestamp("us"))
    # No database here keeps nanoseconds; what is finer is cut off, as pandas' own to_sql does.
    return pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us"))


def hours(column: pa.Array) -> pa.Array:
    """Return times of day as texts with microseconds."""
    safe = column.type.unit != "ns" if hasattr(column.type, "unit") else True
    return column.cast(pa.time64("us"), safe=safe).cast(pa.string())


def hours_of(texts: pa.Array) -> pa.Array:
    """Return times of day of texts such as `05:00:00.5`; ArrowInvalid when one is none."""
    day = pa.scalar("1970-01-01", pa.string())
    moments_of_day = pc.binary_join_element_wise(day, texts, " ").cast(pa.timestamp("us"))
    return moments_of_day.cast(pa.time64("us"))


def microseconds(column: pa.Array) -> pa.Array:
    """Return durations as whole microseconds."""
    return column.cast(pa.duration("us"), safe=False).cast(pa.int64())


def python_values(column: pa.Array) -> list[Any]:
    """Return the values as Python has them, for drivers that take those."""
    of = column.type
    if pa.types.is_timestamp(of):
        column = _micros(column.cast(pa.timestamp(of.unit))) if of.tz is None else column
        if of.tz is not None and of.unit == "ns":
            column = column.cast(pa.timestamp("us", of.tz), safe=False)
        return list(column.to_pylist())
    return list(plain("", column).to_pylist())


def loaded_json(column: pa.ChunkedArray) -> list[Any]:
    storage = pa.chunked_array([chunk.storage for chunk in column.chunks], pa.string())
    return [None if text is None else json.loads(text) for text in storage.to_pylist()]
