"""Frames in and out of Arrow, the form in which connectors hand data over.

Into Arrow: what a block exports, with dictionaries and lists of Python as JSON. Out of Arrow: pandas, with
whole numbers and booleans as plain numpy types where all are there, and as nullable types where some lack.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.io.errors import ConnectorError, ExportRefused
from pipelines.io.nullable import NULLABLE
from pipelines.io.polars_frames import is_lazy, polars_of
from pipelines.streams import Stream, conformed

Objects = Mapping[int, Sequence[Any] | pd.Series]  # by position: the Python values of columns
_MANY_ROWS = 100_000
FrameKind = Literal["pandas", "arrow", "polars", "list", "dict"]

_CONTAINERS = (Mapping, list, tuple, AbstractSet, np.ndarray)


def to_arrow(data: Any, *, index: bool = False) -> pa.Table:
    """Return what a block exports as an Arrow table with distinct text names.

    Takes pandas frames and series, Arrow tables and batches, anything with an Arrow stream (Polars), a
    list of dictionaries or of tables, or a dictionary of columns; of what is streamed, all of it.
    ExportRefused names a column that has no one type.
    """
    table = to_reader(data, index=index).read_all() if is_streamed(data) else _table(data, index)
    if not table.column_names:
        raise ExportRefused("the frame has no columns, so there is nothing to write")
    return table


def is_streamed(data: Any) -> bool:
    """Say whether data comes in batches, and may be larger than memory."""
    return isinstance(data, (Stream, pa.RecordBatchReader, Iterator))


def to_reader(data: Any, *, index: bool = False) -> pa.RecordBatchReader:
    """Return what a block exports as Arrow batches, for one pass; what is streamed never all at once.

    Of an iterator the first frame tells the columns and types, and each of the others has to fit them.
    """
    if isinstance(data, Stream):
        return _with_columns(data.reader(index=index))
    if isinstance(data, pa.RecordBatchReader):
        return _with_columns(data)
    if isinstance(data, Iterator):
        return _with_columns(_reader_of(data, index))
    return to_arrow(data, index=index).to_reader()


def _with_columns(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    _refuse_doubles(reader.schema.names)
    if not reader.schema.names:
        raise ExportRefused("the stream has no columns, so there is nothing to write")
    return reader


def _reader_of(frames: Iterator[Any], index: bool) -> pa.RecordBatchReader:
    first = next(frames, None)
    if first is None:
        raise ExportRefused("the iterator gave no frame, so there is nothing to write")
    table = to_arrow(first, index=index)
    schema = table.schema.remove_metadata()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        for number, frame in enumerate(frames, 2):
            for batch in to_arrow(frame, index=index).to_batches():
                yield _fitted(batch, schema, number)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, number: int) -> pa.RecordBatch:
    """Return a batch as the first frame's schema wants it."""
    difference = sorted(set(schema.names) ^ set(batch.schema.names))
    if difference:
        raise ExportRefused(f"frame {number} and the first one differ in {', '.join(map(repr, difference))}")
    for name in schema.names:
        here, there = batch.column(name), schema.field(name).type
        try:
            here.cast(there)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ExportRefused(
                f"column {name!r} is {there} in the first frame, and {here.type} in frame {number}: {error}. "
                f"Give the column one type in all frames, or return the iterator from a block: "
                f"Millrace then finds one type for all"
            ) from error
    return conformed(batch, schema)


def give(table: pa.Table, frame: FrameKind, objects: Objects | None = None) -> Any:
    """Return loaded rows as what was asked for: "pandas", "arrow", "polars", "list" or "dict".

    "list" is one dictionary for each row, "dict" one list for each column. `objects` is for pandas, see
    `to_pandas`. JSON comes as text to Polars, which has no type for it.
    """
    if frame == "arrow":
        return table
    if frame == "pandas":
        return to_pandas(table, objects)
    if frame == "polars":
        return polars_of(table)
    if frame in ("list", "dict"):
        columns = [_python_values(column) for column in table.columns]
        if frame == "dict":
            return dict(zip(table.column_names, columns, strict=True))
        return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    known = ", ".join(map(repr, get_args(FrameKind)))
    raise ConnectorError(f"frame={frame!r} is not known; use one of {known}")


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if column.type != pa.json_():
        return values
    return [None if text is None else json.loads(text) for text in values]


def _table(data: Any, index: bool) -> pa.Table:
    if isinstance(data, pd.DataFrame):
        return _from_pandas(data.reset_index() if index else data)
    if isinstance(data, pd.Series):
        named = data.to_frame(data.name if data.name is not None else "value")
        return _from_pandas(named.reset_index() if index else named)
    if isinstance(data, pa.Table):
        return _distinct(data)
    if isinstance(data, pa.RecordBatch):
        return _distinct(pa.Table.from_batches([data]))
    if is_lazy(data):
        return _distinct(pa.table(data.collect(engine="streaming")))
    if hasattr(data, "__arrow_c_stream__"):
        return _distinct(pa.table(data))
    if isinstance(data, Mapping) or is_list_of_mappings(data):
        return _from_pandas(_frame_of(data))
    if isinstance(data, list) and data and all(map(_is_table, data)):
        return _one_below_the_other([_table(table, index) for table in data])
    if isinstance(data, list) and not data:
        raise ExportRefused("an empty list has no columns, so there is nothing to write")
    raise ExportRefused(
        f"cannot export a {type(data).__name__}; "
        f"export a DataFrame, a Series, an Arrow table, a list of these or a list of dictionaries"
    )


def _is_table(data: Any) -> bool:
    return isinstance(data, pd.DataFrame | pa.RecordBatch) or hasattr(data, "__arrow_c_stream__")


def _one_below_the_other(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables, such as children of a dynamic block return, as one table."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ExportRefused(f"the tables of the list do not go together: {error}") from error


def _frame_of(data: Mapping[Any, Any] | list[Mapping[Any, Any]]) -> pd.DataFrame:
    """Return a dictionary of columns, or rows as dictionaries, as a frame; single values are one row."""
    if isinstance(data, Mapping) and not any(pd.api.types.is_list_like(value) for value in data.values()):
        data = [data] if data else []
    try:
        return pd.DataFrame(data)
    except ValueError as error:
        raise ExportRefused(f"cannot export a dictionary as columns: {error}") from error


def is_list_of_mappings(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(item, Mapping) for item in data)


def _distinct(table: pa.Table) -> pa.Table:
    _refuse_doubles(table.column_names)
    fields = [field.with_type(_plain(field.type)) for field in table.schema]
    schema = pa.schema(fields, table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that databases and file formats know in the place of Polars' own for text."""
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_dictionary(kind) and kind.value_type == pa.string_view():
        return pa.dictionary(pa.int32(), pa.large_string(), kind.ordered)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def _refuse_doubles(names: Sequence[str]) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ExportRefused(f"the frame has more than one column named {', '.join(map(repr, doubles))}")


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    names = [_text_name(column) for column in frame.columns]
    _refuse_doubles(names)
    columns = [frame.iloc[:, place] for place in range(len(names))]
    if len(frame) < _MANY_ROWS:
        return pa.table([*map(_column, names, columns)], names=names)
    with ThreadPoolExecutor(pa.cpu_count()) as pool:  # columns are independent, and Arrow needs no lock
        return pa.table([*pool.map(_column, names, columns)], names=names)


def _text_name(column: Any) -> str:
    return "_".join(str(part) for part in column) if isinstance(column, tuple) else str(column)


def _column(name: str, series: pd.Series) -> pa.Array | pa.ChunkedArray:
    if series.dtype == object:
        return _objects(name, series)
    try:
        return pa.Array.from_pandas(series)
    except pa.ArrowException as error:
        raise ExportRefused(f"column {name!r} ({series.dtype}) has no Arrow type: {error}") from error


def _objects(name: str, series: pd.Series) -> pa.Array | pa.ChunkedArray:
    """Find the one type of a column of Python objects."""
    values: list[Any] = [None if lacks else value for value, lacks in zip(series, series.isna(), strict=True)]
    kinds = {type(value) for value in values if value is not None}
    if any(issubclass(kind, _CONTAINERS) for kind in kinds):
        return json_array(name, values)
    if kinds == {UUID}:
        return _uuids(values)
    try:
        return _whole_numbers(values) if kinds == {int} else pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ExportRefused(_mixture(name, values)) from error


def _whole_numbers(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:
        return pa.array([None if value is None else Decimal(value) for value in values])


def _uuids(values: list[UUID | None]) -> pa.Array:
    stored = pa.array([None if value is None else value.bytes for value in values], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


def _mixture(name: str, values: Sequence[Any]) -> str:
    there = [(row, value) for row, value in enumerate(values) if value is not None]
    expected = type(there[0][1])
    for row, value in there:
        if type(value) is not expected:
            return (
                f"column {name!r} mixes {expected.__name__} and {type(value).__name__}: row {row} holds "
                f"{value!r}; give the column one type, for instance with astype()"
            )
    return f"column {name!r} holds {expected.__name__} values, which have no column type; convert them first"


def json_array(name: str, values: Iterable[Any]) -> pa.Array:
    """Write each value as JSON, in Arrow's own type for it."""
    return pa.ExtensionArray.from_storage(
        pa.json_(), pa.array([_json_text(name, row, value) for row, value in enumerate(values)], pa.string())
    )


def _json_text(name: str, row: int, value: Any) -> str | None:
    if value is None:
        return None
    try:
        try:
            return _dumped(value)
        except ValueError:
            return _dumped(_without_nan(value))  # pandas writes NaN for what is missing among numbers
    except (TypeError, ValueError) as error:
        raise ExportRefused(f"column {name!r}, row {row}: {value!r} is not JSON: {error}") from error


def _dumped(value: Any) -> str:
    return json.dumps(value, default=_json_value, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_without_nan(item) for item in value]
    return value


def _json_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, AbstractSet):
        return sorted(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _as_series(values: Sequence[Any] | pd.Series) -> pd.Series:
    return values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)


def to_pandas(table: pa.Table, objects: Objects | None = None) -> pd.DataFrame:
    """Return an Arrow table as a frame that may be written to.

    `objects` gives the Python values of columns, by position, that Arrow would not hold as such (JSON,
    numbers of any precision).
    """
    objects = objects or {}
    parts = {place: _as_series(values) for place, values in objects.items()}
    nullable = [
        place
        for place, column in enumerate(table.columns)
        if place not in objects and column.null_count and column.type in NULLABLE
    ]
    plain = [place for place in range(table.num_columns) if place not in objects and place not in nullable]
    for places, mapper in ((nullable, NULLABLE.get), (plain, None)):
        numbered = table.select(places).rename_columns([str(place) for place in places])
        frame = numbered.to_pandas(types_mapper=mapper)
        parts.update({place: frame[str(place)] for place in places})
    result = pd.DataFrame({place: parts[place] for place in range(table.num_columns)}, copy=False)
    result.columns = pd.Index(table.column_names, dtype=object if not table.num_columns else None)
    return result
