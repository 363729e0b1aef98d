"""Rows to Postgres by COPY: in its binary form where the types allow it, else as CSV."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import psycopg2
import pyarrow as pa

from pipelines.io.columns import whole_numbers
from pipelines.io.errors import ExportRefused
from pipelines.io.postgres.binary import BinaryForm
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.postgres.csvtext import CsvForm
from pipelines.io.sqltext import Relation, quoted_list

Rows: TypeAlias = pa.Table | pa.RecordBatchReader  # a reader is taken batch by batch, once

# Few enough for the server to work on one chunk while the next is made, and for wide frames in memory.
_ROWS_PER_CHUNK = 16_384
_READ_BYTES = 1 << 20

# By the catalog's names; a domain counts as what it is made of.
_TYPES = """
SELECT a.attname, CASE WHEN t.typtype = 'e' THEN 'enum' ELSE coalesce(b.typname, t.typname) END
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""


def copy_in(cursor: Cursor, rows: Rows, target: str, kinds: Sequence[str | None], label: Relation) -> int:
    """Append rows to `target`, a quoted name, and return how many there were.

    `kinds` says for each column of the rows what the table's column is about; `label` names the table.
    """
    types = _types_of(cursor, target, rows.schema.names)
    if isinstance(rows, pa.Table):
        form, table = _form_of(whole_numbers(rows, kinds, label), types)
        prepared: Iterator[pa.Table] = iter((table,))
    else:
        form = BinaryForm.of(rows.schema, types) or CsvForm()
        prepared = _prepared(form, rows, kinds, label)
    return _send(cursor, form, prepared, f"{target} ({quoted_list(rows.schema.names)})")


def _types_of(cursor: Cursor, target: str, names: Sequence[str]) -> list[str]:
    cursor.execute(_TYPES, (target,))
    types = dict(cursor.fetchall())
    return [types.get(name, "") for name in names]


def _form_of(table: pa.Table, types: Sequence[str]) -> tuple[BinaryForm | CsvForm, pa.Table]:
    """Choose the binary form if all values fit. From CSV the server says which one does not."""
    only_nulls = [
        name for name, column in zip(table.column_names, table.columns, strict=True) if _has_none(column)
    ]
    binary = BinaryForm.of(table.schema, types, only_nulls)
    if binary is not None:
        try:
            return binary, binary.prepared(table)
        except pa.ArrowInvalid:
            pass
    return CsvForm(), CsvForm().prepared(table)


def _has_none(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count == len(column))


def _prepared(
    form: BinaryForm | CsvForm, reader: pa.RecordBatchReader, kinds: Sequence[str | None], label: Relation
) -> Iterator[pa.Table]:
    before = 0
    for batch in reader:
        table = whole_numbers(pa.Table.from_batches([batch]), kinds, label)
        try:
            yield form.prepared(table)
        except pa.ArrowInvalid as error:
            rows = f"rows {before} to {before + batch.num_rows - 1}"
            raise ExportRefused(
                f"cannot write to {label}: a value among {rows} does not fit: {error}"
            ) from error
        before += batch.num_rows


def _send(cursor: Cursor, form: BinaryForm | CsvForm, tables: Iterator[pa.Table], target: str) -> int:
    with ThreadPoolExecutor(1, thread_name_prefix="copy") as pool:
        chunks = _Chunks(form.encoder(), tables, pool)
        try:
            cursor.copy_expert(f"COPY {target} FROM STDIN (FORMAT {form.format})", chunks, size=_READ_BYTES)
        except psycopg2.Error:
            if chunks.failure is not None:  # the driver tells of it in its own words
                raise chunks.failure from None
            raise
    return chunks.rows


class _Chunks(io.RawIOBase):
    """Prepared rows as a readable file in one of COPY's forms, always one chunk ahead of its reader.

    Chunks are encoded in a thread of the pool. The rows themselves are fetched in the reader's thread: that
    of the block, whose generator may hold things that belong to it.
    """

    def __init__(self, encoder: Any, tables: Iterator[pa.Table], pool: ThreadPoolExecutor) -> None:
        self.rows = 0
        self.failure: BaseException | None = None
        self._encoder = encoder
        self._batches = _small_batches(tables)
        self._pool = pool
        self._next: Future[bytes] | None = pool.submit(encoder.write_header)
        self._chunk = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._chunk and self._next is not None:
                following = self._start()
                self._chunk = memoryview(self._next.result())
                self._next = following
        except BaseException as error:
            self.failure = error
            raise
        size = len(self._chunk) if size < 0 else size
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        return bytes(piece)

    def _start(self) -> Future[bytes] | None:
        if self._encoder is None:
            return None
        batch = next(self._batches, None)
        if batch is not None:
            self.rows += batch.num_rows
            return self._pool.submit(self._encoder.write_batch, batch)
        encoder, self._encoder = self._encoder, None
        return self._pool.submit(encoder.finish)


def _small_batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for table in tables:
        yield from table.to_batches(max_chunksize=_ROWS_PER_CHUNK)
