"""Which Postgres type a column of a frame becomes, and which columns of a table it may join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from pipelines.io.errors import ExportRefused

_KINDS = {
    "bool": "boolean",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "float4": "float",
    "float8": "float",
    "numeric": "numeric",
    "text": "text",
    "varchar": "text",
    "bpchar": "text",
    "name": "text",
    "citext": "text",
    "bytea": "bytes",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "json": "json",
    "jsonb": "json",
    "uuid": "uuid",
}


def kind_of(typname: str) -> str:
    """Return what the type of that catalog name is about; types we know nothing of are `other`."""
    return _KINDS.get(typname, "other")


@dataclass(frozen=True, slots=True)
class SqlType:
    """A Postgres type as `format_type` spells it; `kind` None says that a frame gives no hint."""

    name: str
    kind: str | None


_TEXT = SqlType("text", "text")
_EXACT = {
    pa.bool_(): SqlType("boolean", "boolean"),
    pa.int8(): SqlType("smallint", "integer"),
    pa.uint8(): SqlType("smallint", "integer"),
    pa.int16(): SqlType("smallint", "integer"),
    pa.uint16(): SqlType("integer", "integer"),
    pa.int32(): SqlType("integer", "integer"),
    pa.uint32(): SqlType("bigint", "integer"),
    pa.int64(): SqlType("bigint", "integer"),
    pa.uint64(): SqlType("numeric", "integer"),
    pa.float16(): SqlType("real", "float"),
    pa.float32(): SqlType("real", "float"),
    pa.float64(): SqlType("double precision", "float"),
    pa.null(): SqlType("text", None),
    pa.json_(): SqlType("jsonb", "json"),
    pa.uuid(): SqlType("uuid", "uuid"),
}
_BY_TEST: tuple[tuple[Callable[[pa.DataType], bool], SqlType], ...] = (
    (pa.types.is_decimal, SqlType("numeric", "numeric")),
    (pa.types.is_string, _TEXT),
    (pa.types.is_large_string, _TEXT),
    (pa.types.is_string_view, _TEXT),
    (pa.types.is_date, SqlType("date", "date")),
    (pa.types.is_time, SqlType("time without time zone", "time")),
    (pa.types.is_duration, SqlType("interval", "interval")),
    (pa.types.is_binary, SqlType("bytea", "bytes")),
    (pa.types.is_large_binary, SqlType("bytea", "bytes")),
    (pa.types.is_fixed_size_binary, SqlType("bytea", "bytes")),
    (pa.types.is_binary_view, SqlType("bytea", "bytes")),
    (pa.types.is_nested, SqlType("jsonb", "json")),
)


def sql_type(name: str, column: pa.DataType) -> SqlType:
    """Return the Postgres type for a column of a frame; `name` is for the error."""
    if pa.types.is_dictionary(column):
        return sql_type(name, column.value_type)
    if pa.types.is_timestamp(column):
        if column.tz is None:
            return SqlType("timestamp without time zone", "timestamp")
        return SqlType("timestamp with time zone", "timestamptz")
    if column in _EXACT:
        return _EXACT[column]
    for is_one, found in _BY_TEST:
        if is_one(column):
            return found
    raise ExportRefused(
        f"column {name!r} has the type {column}, which Postgres has no type for; convert it first"
    )
