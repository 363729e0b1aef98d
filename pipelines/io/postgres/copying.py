"""Rows to Postgres and back, by COPY in CSV that pyarrow writes and reads."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from pipelines.io.columns import whole_numbers
from pipelines.io.frames import json_array
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.sqltext import Relation, quoted_list

_ROWS_PER_CHUNK = 32_768
_READ_BYTES = 1 << 20
# "needed" puts every text in quotes and no null: so the empty text and NULL stay apart.
_WRITE = arrow_csv.WriteOptions(include_header=False, quoting_style="needed")


def copy_in(cursor: Cursor, table: pa.Table, target: str) -> int:
    """Append the rows of a table made by `for_copy` to `target`, a quoted name."""
    columns = quoted_list(table.column_names)
    with ThreadPoolExecutor(1, thread_name_prefix="copy") as pool:
        cursor.copy_expert(
            f"COPY {target} ({columns}) FROM STDIN (FORMAT csv)", _CsvChunks(table, pool), size=_READ_BYTES
        )
    return int(table.num_rows)


class _CsvChunks(io.RawIOBase):
    """A table as a readable file of CSV, always one chunk ahead of its reader."""

    def __init__(self, table: pa.Table, pool: ThreadPoolExecutor) -> None:
        self._batches: Iterator[pa.RecordBatch] = iter(table.to_batches(max_chunksize=_ROWS_PER_CHUNK))
        self._pool = pool
        self._next: Future[memoryview] | None = self._start()
        self._chunk = memoryview(b"")

    def _start(self) -> Future[memoryview] | None:
        batch = next(self._batches, None)
        return None if batch is None else self._pool.submit(_csv, batch)

    def read(self, size: int = -1) -> bytes:
        while not self._chunk and self._next is not None:
            self._chunk = self._next.result()
            self._next = self._start()
        size = len(self._chunk) if size < 0 else size
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        return bytes(piece)


def _csv(batch: pa.RecordBatch) -> memoryview:
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(batch, sink, _WRITE)
    return memoryview(sink.getvalue())


def for_copy(table: pa.Table, kinds: Sequence[str | None], target: Relation) -> pa.Table:
    """Return the table with every column in a form whose CSV Postgres reads as a column of that kind."""
    table = whole_numbers(table, kinds, target)
    columns = [
        _writable(name, column) for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, names=table.column_names)


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
