"""The binary form of COPY: exact types, which the server takes without parsing.

It is made by pgpq. A value goes out as its column's own type, so each column is cast first; what has no
safe cast leaves the frame to CSV, from which the server makes what it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pgpq
import pgpq.encoders
import pgpq.schema
import pyarrow as pa

from pipelines.io.frames import json_array

_EPOCH_US = pa.timestamp("us")
_EPOCH_US_UTC = pa.timestamp("us", "UTC")
_MOST_DIGITS = 38  # of a decimal that pgpq knows

Test = Callable[[pa.DataType], Any]


def _is_number(kind: pa.DataType) -> Any:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_short_float(kind: pa.DataType) -> Any:
    return pa.types.is_float16(kind) or pa.types.is_float32(kind)


def _is_float(kind: pa.DataType) -> Any:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_text(kind: pa.DataType) -> Any:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> Any:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _is_json(kind: pa.DataType) -> Any:
    return kind == pa.json_() or _is_text(kind) or pa.types.is_nested(kind)


def _is_moment(kind: pa.DataType) -> Any:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


# By the catalog's name of the table's type: from which types of a frame it is made, and as which it is sent.
_SENT: dict[str, tuple[Test, pa.DataType]] = {
    "bool": (pa.types.is_boolean, pa.bool_()),
    "int2": (_is_number, pa.int16()),
    "int4": (_is_number, pa.int32()),
    "int8": (_is_number, pa.int64()),
    "float4": (_is_short_float, pa.float32()),  # the server alone says of a float8 that it is too large
    "float8": (_is_float, pa.float64()),
    "text": (_is_text, pa.large_string()),
    "varchar": (_is_text, pa.large_string()),
    "bpchar": (_is_text, pa.large_string()),
    "citext": (_is_text, pa.large_string()),
    "enum": (_is_text, pa.large_string()),
    "json": (_is_json, pa.large_string()),
    "jsonb": (_is_json, pa.large_string()),
    "bytea": (_is_bytes, pa.large_binary()),
    "uuid": (lambda kind: bool(kind == pa.uuid()), pa.binary(16)),
    "date": (pa.types.is_date, pa.date32()),
    "time": (pa.types.is_time, pa.time64("us")),
    "timestamp": (_is_moment, _EPOCH_US),
    "timestamptz": (_is_moment, _EPOCH_US_UTC),
    "interval": (pa.types.is_duration, pa.duration("us")),
}
# Finer than the server keeps: cut, as CSV does it.
_CUT = (pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration)


@dataclass(frozen=True)
class BinaryForm:
    """How the rows of one schema go into the columns of one table."""

    format: ClassVar[str] = "binary"
    schema: pa.Schema
    json_columns: frozenset[str]  # those sent as jsonb, which has a version before the text

    @classmethod
    def of(cls, schema: pa.Schema, types: Sequence[str], only_nulls: Sequence[str] = ()) -> BinaryForm | None:
        """Return the form for columns of those Postgres types, or None when one of them has none."""
        fields = []
        for field, type_ in zip(schema, types, strict=True):
            source = pa.null() if field.name in only_nulls else field.type
            sent = _sent_type(source, type_)
            if sent is None:
                return None
            fields.append(pa.field(field.name, sent))
        jsonb = (field.name for field, type_ in zip(schema, types, strict=True) if type_ == "jsonb")
        return cls(pa.schema(fields), frozenset(jsonb))

    def prepared(self, table: pa.Table) -> pa.Table:
        """Cast the rows; ArrowInvalid when a value does not fit its column."""
        columns = [
            _cast(table.column(place), field.name, field.type) for place, field in enumerate(self.schema)
        ]
        return pa.table(columns, schema=self.schema)

    def encoder(self) -> Any:
        """Return what turns record batches into bytes; its header comes first, its `finish()` last."""
        builders = {field.name: self._builder(field) for field in self.schema}
        return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self.schema, builders)

    def _builder(self, field: pa.Field) -> Any:
        if field.name in self.json_columns:
            return pgpq.encoders.LargeStringEncoderBuilder.new_with_output(field, pgpq.schema.Jsonb())
        return pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)


def _sent_type(source: pa.DataType, type_: str) -> pa.DataType | None:
    if pa.types.is_dictionary(source):
        source = source.value_type
    if pa.types.is_null(source):
        return pa.large_string()  # a null has no bytes, whatever its type
    if type_ == "numeric":
        return _sent_decimal(source)
    if type_ not in _SENT:
        return None
    is_source, sent = _SENT[type_]
    return sent if is_source(source) else None


def _sent_decimal(source: pa.DataType) -> pa.DataType | None:
    if pa.types.is_uint64(source):
        return source
    if pa.types.is_integer(source):
        return pa.decimal128(19, 0)
    if pa.types.is_decimal(source) and 0 <= source.scale <= _MOST_DIGITS:
        return pa.decimal128(_MOST_DIGITS, source.scale)
    return None


def _cast(column: pa.ChunkedArray, name: str, sent: pa.DataType) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type == sent:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), sent)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_nested(column.type):
        return json_array(name, column.to_pylist()).storage.cast(sent)
    return column.cast(sent, safe=not any(is_one(column.type) for is_one in _CUT))
