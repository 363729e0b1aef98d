"""The CSV form of COPY: text, of which the server makes what a column needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from pipelines.io.frames import json_array

# "needed" puts every text in quotes and no null: so the empty text and NULL stay apart.
_WRITE = arrow_csv.WriteOptions(include_header=False, quoting_style="needed")


class CsvForm:
    """Every column in a form whose CSV Postgres reads as a column of that kind."""

    format: ClassVar[str] = "csv"

    def prepared(self, table: pa.Table) -> pa.Table:
        columns = [
            _writable(name, column) for name, column in zip(table.column_names, table.columns, strict=True)
        ]
        return pa.table(columns, names=table.column_names)

    def encoder(self) -> _CsvEncoder:
        return _CsvEncoder()


class _CsvEncoder:
    """As the encoder of the binary form; CSV has neither a head nor an end."""

    def write_header(self) -> bytes:
        return b""

    def write_batch(self, batch: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        arrow_csv.write_csv(batch, sink, _WRITE)
        return bytes(sink.getvalue())

    def finish(self) -> bytes:
        return b""


def _writable(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    for is_one, convert in _CONVERSIONS:
        if is_one(column.type):
            return convert(name, column)
    return column


def _timestamp(_: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    zone = None if column.type.tz is None else "UTC"
    column = column.cast(pa.timestamp(column.type.unit, zone))
    try:
        return column.cast(pa.timestamp("s", zone))  # shorter text, which the server reads faster
    except pa.ArrowInvalid:
        return column.cast(pa.timestamp("us", zone), safe=False)


def _interval(_: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    microseconds = column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(microseconds, "microseconds", " ")


def _hex(_: str, column: pa.ChunkedArray) -> pa.Array:
    return pa.array(
        [None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()], pa.string()
    )


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


def _extension(_: str, column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if column.type == pa.uuid():
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(column.type.storage_type)


_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Callable[..., pa.ChunkedArray | pa.Array]], ...] = (
    (_is_extension, _extension),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_duration, _interval),
    (pa.types.is_binary, _hex),
    (pa.types.is_large_binary, _hex),
    (pa.types.is_fixed_size_binary, _hex),
    (pa.types.is_binary_view, _hex),
    (pa.types.is_nested, lambda name, column: json_array(name, column.to_pylist()).storage),
    (pa.types.is_string_view, lambda _, column: column.cast(pa.large_string())),
    (pa.types.is_float16, lambda _, column: column.cast(pa.float32())),
    (pa.types.is_time, lambda _, column: column.cast(pa.time64("us"), safe=False)),
)
