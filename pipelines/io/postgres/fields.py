"""The columns of a result: what Postgres calls their types, and what they become in frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa

from pipelines.io.frames import FrameKind, give

# By object id of the type, which is the same in every Postgres.
ARROW: Mapping[int, pa.DataType] = {
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
OID, INTERVAL, NUMERIC, BYTES, UUIDS = 26, 1186, 1700, 17, 2950
JSON = (114, 3802)
TEXTS = (18, 19, 25, 1042, 1043)  # "char", name, text, char(n), varchar

# Types whose values pandas does not hold as such: how to make each from its text.
OBJECTS: Mapping[int, Callable[[str], Any]] = {
    BYTES: lambda text: bytes.fromhex(text[2:]),
    114: json.loads,
    NUMERIC: Decimal,
    UUIDS: UUID,
    3802: json.loads,
}
_MOST_DIGITS = 76  # of an Arrow decimal


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a result; precision and scale are those of a numeric that says them."""

    name: str
    oid: int
    precision: int | None = None
    scale: int | None = None
    is_array: bool = False

    @property
    def is_json(self) -> bool:
        return self.is_array or self.oid in JSON

    @property
    def makes(self) -> Callable[[str], Any] | None:
        """What makes a Python object of a value's text; None where pandas has a type for it."""
        return json.loads if self.is_array else OBJECTS.get(self.oid)


def frame_of(fields: Sequence[Field], table: pa.Table, frame: FrameKind) -> Any:
    """Return a result as the kind of frame asked for; its columns are known by position."""
    if frame != "pandas":
        return give(in_arrow(fields, table), frame)
    objects = {
        place: _values(table.column(place), field.makes)
        for place, field in enumerate(fields)
        if field.makes is not None
    }
    return renamed(fields, give(table, "pandas", objects))


def renamed(fields: Sequence[Field], frame: pd.DataFrame) -> pd.DataFrame:
    for place, field in enumerate(fields):
        if field.oid == INTERVAL and not field.is_array:
            frame[str(place)] = _durations(frame[str(place)])
    frame.columns = pd.Index([field.name for field in fields])
    return frame


def _values(column: pa.ChunkedArray, make: Callable[[str], Any]) -> list[Any]:
    if isinstance(column.type, pa.BaseExtensionType) and column.type != pa.uuid():
        column = column.cast(column.type.storage_type)
    return [make(value) if isinstance(value, str) else value for value in column.to_pylist()]


def _durations(texts: pd.Series) -> pd.Series:
    """Turn ISO 8601 texts into time deltas; months and years have no fixed length, so they stay text."""
    has_months = texts.str.contains("^P[^T]*[YM]", na=False)
    return texts if has_months.any() else pd.to_timedelta(texts)


def in_arrow(fields: Sequence[Field], table: pa.Table) -> pa.Table:
    """Return a whole result with names, and Arrow's own types for numerics, JSON, bytes and UUIDs."""
    columns = [_typed(field, table.column(place)) for place, field in enumerate(fields)]
    return pa.table(columns, names=[field.name for field in fields])


def _typed(field: Field, column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if field.oid == NUMERIC and decimal_of(field) is None:
        return _measured(column)
    return streamed(field, column)


def _measured(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Find digits and scale from the values; those that no decimal holds (NaN, too long) stay text."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.decimal128(38, 0))
    try:
        return pa.array(_values(column, Decimal))
    except pa.ArrowInvalid:
        return column.cast(pa.string())


def decimal_of(field: Field) -> pa.DataType | None:
    """Return the Arrow type of a numeric that says its digits."""
    if field.precision is None or field.scale is None or field.precision > _MOST_DIGITS or field.scale < 0:
        return None
    wide = field.precision > 38
    return (pa.decimal256 if wide else pa.decimal128)(field.precision, field.scale)


def streamed_type(field: Field) -> pa.DataType:
    """Return the type of a column of which not all values are known."""
    if field.is_json:
        return pa.json_()
    if field.oid == NUMERIC:
        return decimal_of(field) or pa.string()
    special = {BYTES: pa.binary(), UUIDS: pa.uuid()}
    return ARROW.get(field.oid) or special.get(field.oid, pa.string())


def streamed(field: Field, column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return one column, or a part of it, with the type that `streamed_type` says."""
    wanted = streamed_type(field)
    if column.type == wanted:
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if field.is_json:
        return pa.chunked_array(
            [pa.ExtensionArray.from_storage(wanted, part.cast(pa.string())) for part in column.chunks], wanted
        )
    if field.oid in (BYTES, UUIDS) and pa.types.is_string(column.type):
        made = _values(column, OBJECTS[field.oid])
        return _uuids(made) if field.oid == UUIDS else pa.array(made, wanted)
    return column.cast(wanted)


def _uuids(values: Sequence[UUID | None]) -> pa.Array:
    stored = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)
