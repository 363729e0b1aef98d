"""Types of Arrow as BigQuery has them, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from google.cloud.bigquery import SchemaField

from pipelines.io.errors import ExportRefused

_NUMERIC = pa.decimal128(38, 9)
_BIGNUMERIC = pa.decimal256(76, 38)

_ARROW = {
    "BOOL": pa.bool_(),
    "BOOLEAN": pa.bool_(),
    "INT64": pa.int64(),
    "INTEGER": pa.int64(),
    "FLOAT64": pa.float64(),
    "FLOAT": pa.float64(),
    "NUMERIC": _NUMERIC,
    "BIGNUMERIC": _BIGNUMERIC,
    "STRING": pa.string(),
    "GEOGRAPHY": pa.string(),
    "JSON": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
}

# What a type is about, in the words of `pipelines.io.columns`.
_KINDS = {
    "BOOL": "boolean",
    "BOOLEAN": "boolean",
    "INT64": "integer",
    "INTEGER": "integer",
    "FLOAT64": "float",
    "FLOAT": "float",
    "NUMERIC": "numeric",
    "BIGNUMERIC": "numeric",
    "STRING": "text",
    "BYTES": "bytes",
    "DATE": "date",
    "TIME": "time",
    "DATETIME": "timestamp",
    "TIMESTAMP": "timestamptz",
    "INTERVAL": "interval",
    "JSON": "json",
}

_SIMPLE: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "BOOL"),
    (pa.types.is_uint64, "NUMERIC"),
    (pa.types.is_integer, "INT64"),
    (pa.types.is_floating, "FLOAT64"),
    (pa.types.is_string, "STRING"),
    (pa.types.is_large_string, "STRING"),
    (pa.types.is_string_view, "STRING"),
    (pa.types.is_null, "STRING"),
    (pa.types.is_binary, "BYTES"),
    (pa.types.is_large_binary, "BYTES"),
    (pa.types.is_binary_view, "BYTES"),
    (pa.types.is_fixed_size_binary, "BYTES"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_time, "TIME"),
)


def kind_of(field: SchemaField) -> str:
    """Return what a column of a table is about."""
    if field.mode == "REPEATED" or field.field_type in ("RECORD", "STRUCT"):
        return "json"
    return _KINDS.get(field.field_type, "other")


def field_of(name: str, type: pa.DataType) -> SchemaField:
    """Return the column of BigQuery that takes a column of Arrow. ExportRefused when there is none."""
    if pa.types.is_dictionary(type):
        return field_of(name, type.value_type)
    if isinstance(type, pa.BaseExtensionType):
        return SchemaField(name, "JSON" if type == pa.json_() else "STRING")
    if pa.types.is_struct(type):
        return SchemaField(name, "RECORD", fields=[field_of(part.name, part.type) for part in type])
    if _is_list(type):
        return _repeated(name, type)
    return SchemaField(name, _scalar(name, type))


def _is_list(type: pa.DataType) -> bool:
    return bool(pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type))


def _repeated(name: str, type: pa.DataType) -> SchemaField:
    item = field_of(name, type.value_type)
    if item.mode == "REPEATED":
        raise ExportRefused(f"column {name!r} holds lists of lists, which BigQuery does not know")
    return SchemaField(name, item.field_type, mode="REPEATED", fields=item.fields)


def _scalar(name: str, type: pa.DataType) -> str:
    for is_it, found in _SIMPLE:
        if is_it(type):
            return found
    if pa.types.is_timestamp(type):
        return "DATETIME" if type.tz is None else "TIMESTAMP"
    if pa.types.is_decimal(type):
        return _decimal(name, type)
    if pa.types.is_duration(type):
        raise ExportRefused(
            f"column {name!r} holds spans of time, which no load job of BigQuery takes; "
            "export them as seconds: .dt.total_seconds()"
        )
    raise ExportRefused(f"column {name!r} is {type}, which BigQuery has no type for; convert it")


def _decimal(name: str, type: pa.DataType) -> str:
    for target, found in ((_NUMERIC, "NUMERIC"), (_BIGNUMERIC, "BIGNUMERIC")):
        before = target.precision - target.scale
        if type.scale <= target.scale and type.precision - type.scale <= before:
            return found
    raise ExportRefused(f"column {name!r} is {type}, which has more digits than a BIGNUMERIC of BigQuery")


def arrow_type(field: SchemaField) -> pa.DataType:
    """Return the type that the rows of a column have in Arrow."""
    if field.field_type in ("RECORD", "STRUCT"):
        of = pa.struct([pa.field(part.name, arrow_type(part)) for part in field.fields])
    else:
        of = _ARROW.get(field.field_type, pa.string())
    return pa.list_(of) if field.mode == "REPEATED" else of


def arrow_schema(fields: Sequence[SchemaField]) -> pa.Schema:
    return pa.schema([pa.field(field.name, arrow_type(field)) for field in fields])


def fitted(batch: pa.RecordBatch, fields: Sequence[SchemaField]) -> pa.RecordBatch:
    """Return a batch in the types that load jobs take. ExportRefused names a column that fails."""
    columns = [_column(column, field) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema(fields))


def _column(column: pa.Array, field: SchemaField) -> pa.Array:
    wanted = arrow_type(field)
    if isinstance(column.type, pa.BaseExtensionType):
        column = _stored(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return column.cast(wanted)
    except pa.ArrowException as error:
        raise ExportRefused(
            f"column {field.name!r} does not fit {field.field_type}: {' '.join(str(error).split())}"
            f"{_remedy(column.type)}"
        ) from error


def _stored(column: pa.Array) -> pa.Array:
    if column.type != pa.uuid():
        return column.storage
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _remedy(type: pa.DataType) -> str:
    if pa.types.is_timestamp(type) and type.unit == "ns":
        return "; BigQuery keeps microseconds, so round the moments: .dt.round('us')"
    return ""


def is_json(field: SchemaField) -> bool:
    return bool(field.field_type == "JSON" and field.mode != "REPEATED")
