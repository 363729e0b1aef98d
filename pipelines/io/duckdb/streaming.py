"""Batches into DuckDB: it pulls them one by one, so that they never lie in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.io.base import IfExists
from pipelines.io.columns import FrameColumn, whole_numbers
from pipelines.io.duckdb.frames import readable
from pipelines.io.duckdb.tables import FRAME, Order, columns_of, described, kind_of, write_rows
from pipelines.io.errors import ConnectorError
from pipelines.io.frames import to_reader
from pipelines.io.sqltext import quoted
from pipelines.streams import Stream

Change = Callable[[pa.Table], pa.Table]


class Rereadable:
    """A stream as DuckDB takes it: with types that it knows, read anew by every scan."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return _changed(self._stream.reader(), readable, []).__arrow_c_stream__(requested_schema)


def write_stream(connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, order: Order) -> int:
    """Write batches, each of which is read once, and return their rows."""
    kinds = _kinds(connection, order)
    names = reader.schema.names

    def fitted(table: pa.Table) -> pa.Table:
        return readable(whole_numbers(table, [kinds.get(name) for name in names], order.target))

    failures: list[Exception] = []
    rows = _changed(reader, fitted, failures)
    columns = _columns(connection, rows.schema)
    connection.register(FRAME, rows)
    with _as_they_were(failures):
        return write_rows(connection, f"SELECT * FROM {FRAME}", columns, order)


def reader_for_each_try(data: Any, index: bool) -> Callable[[], pa.RecordBatchReader]:
    """Return what gives the batches to each try of a write, or says that they are gone."""
    if isinstance(data, Stream):
        return lambda: to_reader(data, index=index)
    readers = iter([to_reader(data, index=index)])

    def next_reader() -> pa.RecordBatchReader:
        for reader in readers:
            return reader
        raise ConnectorError(
            "another writer got in the way, and what was to be written can be read only once; return it from "
            "a block, which stores it, and export it in the next one"
        )

    return next_reader


def stage_once(connection: duckdb.DuckDBPyConnection, name: str, reader: pa.RecordBatchReader) -> None:
    """Put batches that can be read once into a table of this connection, for any number of scans."""
    failures: list[Exception] = []
    connection.register(FRAME, _changed(reader, readable, failures))
    with _as_they_were(failures):
        connection.execute(f"CREATE OR REPLACE TEMPORARY TABLE {quoted(name)} AS SELECT * FROM {FRAME}")
    connection.unregister(FRAME)


def _kinds(connection: duckdb.DuckDBPyConnection, order: Order) -> Mapping[str, str | None]:
    """Return what the columns of the table are about, where the rows join those that are there."""
    if order.policy.if_exists is IfExists.REPLACE:
        return {}
    return {column.name: column.kind for column in columns_of(connection, order.target) or ()}


def _columns(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> list[FrameColumn]:
    connection.register(FRAME, schema.empty_table())
    found = described(connection, f"SELECT * FROM {FRAME}")
    connection.unregister(FRAME)
    return [FrameColumn(name, kind, kind_of(kind), lambda: "in a stream") for name, kind in found]


def _changed(reader: pa.RecordBatchReader, change: Change, failures: list[Exception]) -> pa.RecordBatchReader:
    """Return the batches changed; what goes wrong between two of them is also put into `failures`."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                yield from change(pa.Table.from_batches([batch])).to_batches()
        except Exception as error:
            failures.append(error)
            raise

    return pa.RecordBatchReader.from_batches(change(reader.schema.empty_table()).schema, batches())


@contextmanager
def _as_they_were(failures: list[Exception]) -> Iterator[None]:
    """Raise what the batches themselves raised: DuckDB makes a text of it."""
    try:
        yield
    except duckdb.Error:
        if failures:
            raise failures[0] from None
        raise
