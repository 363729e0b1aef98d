"""Frames on their way to R and back: Parquet where R can read it, else CSV with the types beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines.errors import BlockCodeError
from pipelines.io.frames import to_pandas

_LARGEST_INTEGER = 2**31 - 1

_TYPES_FROM_R = {
    "logical": pa.bool_(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "text": pa.string(),
}


def write_for_r(table: pa.Table, file: Path, *, name: str) -> list[str]:
    """Write a table for R and return the kind that R gives each column."""
    columns = [
        _simple(f"{name}, column {field.name!r}", table[place]) for place, field in enumerate(table.schema)
    ]
    simple = pa.table(columns, names=table.column_names)
    kinds = [_kind(column) for column in columns]
    if file.suffix == ".parquet":
        pq.write_table(simple, file)
    else:
        pa.csv.write_csv(simple, file)
    return kinds


def read_from_r(folder: Path, inputs: Sequence[pa.Table]) -> pd.DataFrame | None:
    """Return the table that R has left in `folder`, with types restored from inputs of the same name."""
    if (folder / "output.parquet").exists():
        table = pq.read_table(folder / "output.parquet")
    elif (folder / "output.csv").exists():
        table = _read_csv(folder)
    else:
        return None
    return to_pandas(_restored(table, inputs))


def _read_csv(folder: Path) -> pa.Table:
    kinds = (folder / "output.kinds").read_text("utf-8").split("\n")[:-1]
    if not kinds:
        return pa.table({})
    with (folder / "output.csv").open(encoding="utf-8", newline="") as file:
        names = next(csv.reader(file))
    types = {str(place): _TYPES_FROM_R[kind] for place, kind in enumerate(kinds)}
    table = pa.csv.read_csv(
        folder / "output.csv",
        read_options=pa.csv.ReadOptions(skip_rows=1, column_names=list(types), block_size=1 << 24),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["TRUE"],
            false_values=["FALSE"],
        ),
    )
    # A moment of R is one in UTC, shown in some zone.
    moments = [
        column.cast(pa.timestamp("us", "UTC")) if kind == "time" else column
        for kind, column in zip(kinds, table.columns, strict=True)
    ]
    return pa.table(moments, names=names)


# --- what R has no type for ----------------------------------------------------------------------------


def _simple(what: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in one of the types that R has as well."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _simple(what, pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        return _simple(what, column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        utc = column.cast(pa.timestamp(kind.unit)) if kind.tz else column
        return utc.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        return column.cast(pa.float64())
    if pa.types.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pa.chunked_array([texts], pa.string())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    if pa.types.is_date32(kind):
        return column
    try:
        return column.cast(pa.date32() if pa.types.is_date(kind) else pa.string())
    except pa.ArrowException as error:
        raise BlockCodeError(f"{what} ({kind}) has no form in R: {error}") from error


def _kind(column: pa.ChunkedArray) -> str:
    """Return what a simple column is to R."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return "logical"
    if pa.types.is_integer(kind):
        bounds = pc.min_max(column).as_py().values()
        return "integer" if all(abs(bound or 0) <= _LARGEST_INTEGER for bound in bounds) else "double"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_timestamp(kind):
        return "time"
    return "date" if pa.types.is_date(kind) else "text"


def _restored(table: pa.Table, inputs: Sequence[pa.Table]) -> pa.Table:
    """Give columns the type that an input of that name has, where R only lacks the type."""
    known = {field.name: field.type for given in reversed(inputs) for field in given.schema}
    columns = [
        _as_before(table[place], known.get(name, table[place].type))
        for place, name in enumerate(table.column_names)
    ]
    return pa.table(columns, names=table.column_names)


def _as_before(column: pa.ChunkedArray, before: pa.DataType) -> pa.ChunkedArray:
    is_number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    was_number = pa.types.is_integer(before) or pa.types.is_decimal(before)
    is_moment = pa.types.is_timestamp(column.type) and pa.types.is_timestamp(before)
    if not is_moment and not (is_number and was_number):
        return column
    try:
        return column.cast(before)
    except pa.ArrowException:
        return column  # what R made of it is no such number any more
