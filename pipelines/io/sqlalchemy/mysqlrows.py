"""Rows as the text of INSERT statements, made by Arrow for a whole batch at once.

Beside LOAD DATA this is the fastest way in. LOAD DATA LOCAL is left alone: with it a server may ask its
client for any file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.io.errors import ExportRefused
from pipelines.io.sqlalchemy import values

_BYTES = 1 << 20  # of one statement, about; servers take 16 MiB and more
_ESCAPES = (("\\", "\\\\"), ("'", "\\'"), ("\0", "\\0"))


def insert_statements(target: str, batch: pa.RecordBatch) -> Iterator[bytes]:
    """Yield statements that add the rows to `target`, a quoted table with its columns."""
    literals = [
        _literals(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    if not batch.num_rows:
        return
    rows = _joined(*literals, separator=",")
    rows = _joined(_constant("("), rows, _constant("),"), separator="")
    head, text = f"INSERT INTO {target} VALUES ".encode(), memoryview(rows.buffers()[2])
    for start, stop in _pieces(np.frombuffer(rows.buffers()[1], np.int64)[: len(rows) + 1]):
        yield head + text[start : stop - 1]  # without the last comma


def _joined(*columns: pa.Array, separator: str) -> pa.Array:
    return pc.binary_join_element_wise(
        *columns, _constant(separator), null_handling="replace", null_replacement="NULL"
    )


def _constant(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _pieces(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut the rows' text into pieces of about one statement; each has one row at least."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + _BYTES, side="right")) - 1
        stop = max(stop, start + 1)
        yield int(offsets[start]), int(offsets[stop])
        start = stop


def _literals(name: str, column: pa.Array) -> pa.Array:
    plain = values.plain(name, column)
    of = plain.type
    if pa.types.is_floating(of):
        return _numbers(name, plain)
    if pa.types.is_boolean(of):
        return plain.cast(pa.int8()).cast(pa.large_string())
    if pa.types.is_integer(of) or pa.types.is_decimal(of):
        return plain.cast(pa.string()).cast(pa.large_string())
    if pa.types.is_timestamp(of):
        return _quoted(values.moments(plain))
    if pa.types.is_time(of):
        return _quoted(values.hours(plain))
    if pa.types.is_date(of):
        return _quoted(plain.cast(pa.date32()).cast(pa.string()))
    if _is_bytes(of):
        return pa.array(
            [None if value is None else f"x'{value.hex()}'" for value in plain.to_pylist()], pa.large_string()
        )
    return _quoted(_escaped(plain.cast(pa.large_string())))


def _is_bytes(of: pa.DataType) -> bool:
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    )
    return any(is_one(of) for is_one in tests)


def _numbers(name: str, column: pa.Array) -> pa.Array:
    endless = pc.is_inf(column)
    if pc.any(endless).as_py():
        row = pc.index(endless, True).as_py()
        raise ExportRefused(
            f"column {name!r} holds {column[row].as_py()}, which MySQL has no number for; "
            f"replace it, for instance by a missing value"
        )
    known = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return known.cast(pa.string()).cast(pa.large_string())


def _escaped(column: pa.Array) -> pa.Array:
    for character, written in _ESCAPES:
        column = pc.replace_substring(column, character, written)
    return column


def _quoted(column: pa.Array) -> pa.Array:
    quote = _constant("'")
    return pc.binary_join_element_wise(quote, column.cast(pa.large_string()), quote, _constant(""))
