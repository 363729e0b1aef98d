"""CSV read by pyarrow, in several threads, where that gives the frame of pandas; else by pandas."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from pipelines.io.errors import UnreadableFile
from pipelines.io.files.cutlines import refuse_cut
from pipelines.io.frames import to_reader
from pipelines.io.nullable import NULLABLE

Options = Mapping[str, Any]

# What pandas takes for a missing value unless it is told otherwise.
_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_TRUE, _FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")

# Options of pandas that change how it works and not what it gives.
_MEANINGLESS = frozenset({"engine", "low_memory", "memory_map"})
_DTYPES: dict[Any, pa.DataType] = {
    str: pa.string(), "str": pa.string(),
    float: pa.float64(), "float": pa.float64(), "float64": pa.float64(),
    int: pa.int64(), "int": pa.int64(), "int64": pa.int64(),
    bool: pa.bool_(), "bool": pa.bool_(),
}  # fmt: skip
_NULLABLE = {dtype.name: kind for kind, dtype in NULLABLE.items()}

_HEAD_BYTES = 16 << 20  # by these a stream's types are told
_BLOCK_BYTES = 2 << 20
_STREAMED_BYTES = 1 << 20  # in one block of a stream: the reader fetches up to 32 of them ahead
_ROWS_AT_ONCE = 50_000  # of pandas
_SAMPLE = 1_000
_INTEGERS_END = 2.0**63


@dataclass(frozen=True)
class Asked:
    """The options of a read that pyarrow can do as well; `dtype` by column, or one for all."""

    delimiter: str = ","
    usecols: tuple[str, ...] | None = None
    dates: tuple[str, ...] = ()
    dtype: Mapping[str, Any] = field(default_factory=dict)
    dtype_of_all: Any = None
    compression: str | None = None

    @classmethod
    def of(cls, path: Path, options: Options) -> Asked | None:
        """Read the options of pandas; None when only pandas knows what one of them means."""
        given = {name: value for name, value in options.items() if name not in _MEANINGLESS}
        delimiter = given.pop("sep", given.pop("delimiter", ","))
        usecols, dates = given.pop("usecols", None), given.pop("parse_dates", None)
        dtype, compression = given.pop("dtype", None), given.pop("compression", "infer")
        if compression == "infer":
            compression = {".gz": "gzip", ".csv": None}.get(path.suffix.lower(), "other")
        if (
            given
            or compression not in (None, "gzip")
            or not isinstance(delimiter, str)
            or len(delimiter) != 1
        ):
            return None
        if not (_are_names(usecols) and _are_names(dates)):
            return None
        by_column = dict(dtype) if isinstance(dtype, Mapping) else {}
        of_all = None if isinstance(dtype, Mapping) else dtype
        wanted = [*by_column.values(), *([] if of_all is None else [of_all])]
        if not all(_is_known(one) for one in wanted) or (dates and (of_all or set(dates) & set(by_column))):
            return None
        columns = None if usecols is None else tuple(usecols)
        return cls(delimiter, columns, tuple(dates or ()), by_column, of_all, compression)

    def dtype_for(self, name: str) -> Any:
        return self.dtype.get(name, self.dtype_of_all)

    def opened(self, path: Path) -> Any:
        return pa.input_stream(str(path), compression=self.compression)

    def parsing(self) -> arrow_csv.ParseOptions:
        return arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)

    def converting(self, columns: list[str], types: Mapping[str, pa.DataType]) -> arrow_csv.ConvertOptions:
        return arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            null_values=_MISSING,
            true_values=_TRUE,
            false_values=_FALSE,
            strings_can_be_null=True,
        )

    def head(self, path: Path, size: int) -> pa.Schema:
        """Return the columns of the file with the types that its beginning suggests."""
        # Of a file itself the reader would fetch many blocks more. What is behind the first one lets it find
        # the end of that one's last row.
        with self.opened(path) as stream:
            begin = pa.BufferReader(stream.read(size + _BLOCK_BYTES))
        options = arrow_csv.ReadOptions(block_size=size, use_threads=False)
        return arrow_csv.open_csv(begin, options, self.parsing(), self.converting([], {})).schema


def _are_names(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value))


def _is_known(dtype: Any) -> bool:
    return str(dtype) in _NULLABLE or (isinstance(dtype, str | type) and dtype in _DTYPES)


def _type_of(dtype: Any) -> pa.DataType | None:
    if dtype is None:
        return None
    return _NULLABLE.get(str(dtype)) or _DTYPES[dtype]


def read_csv(path: Path, options: Options) -> pd.DataFrame:
    asked = Asked.of(path, options)
    if asked is not None:
        frame = _by_arrow(path, asked)
        if frame is not None:
            return frame
        refuse_cut(path, asked.delimiter, asked.compression)
    return cast(pd.DataFrame, pd.read_csv(path, **options))


def _by_arrow(path: Path, asked: Asked) -> pd.DataFrame | None:
    """Return the frame, or None when pandas might make another one of this file."""
    try:
        schema = asked.head(path, _BLOCK_BYTES)
        columns = _columns(schema, asked)
        if columns is None or _has_odd_numbers(path, asked):
            return None
        texts = {name: pa.string() for name in columns if _is_told_text(name, schema, asked)}
        with asked.opened(path) as stream:
            watched = _Watched(stream)
            converting = asked.converting(columns, texts)
            table = arrow_csv.read_csv(watched, arrow_csv.ReadOptions(), asked.parsing(), converting)
        if watched.has_hexadecimal and any(map(pa.types.is_integer, table.schema.types)):
            return None
        return _frame(table, asked) if table.num_rows else None
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None


def _columns(schema: pa.Schema, asked: Asked) -> list[str] | None:
    """Return the columns to read, in the file's order; None for names that pandas changes or refuses."""
    if "" in schema.names or len(set(schema.names)) < len(schema.names):
        return None
    wanted = schema.names if asked.usecols is None else asked.usecols
    if not set(wanted) | set(asked.dates) <= set(schema.names) or not set(asked.dates) <= set(wanted):
        return None
    return [name for name in schema.names if name in wanted]


def _has_odd_numbers(path: Path, asked: Asked) -> bool:
    """Tell whether something looks like 0x1F or +5, of which pyarrow makes other values than pandas."""
    odd = re.compile(rb"(?:^|[\s\"" + re.escape(asked.delimiter.encode()) + rb"])(?:\+[0-9.]|[+-]?0[xX])")
    with asked.opened(path) as stream:
        return odd.search(stream.read(_BLOCK_BYTES)) is not None


class _Watched(io.RawIOBase):
    """A stream that sees whether 0x1F may come by: far behind the beginning pyarrow makes a number of it."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._last = b""
        self.has_hexadecimal = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._stream.read(size)
        seam = self._last + piece[:1]
        if any(mark in piece or mark == seam for mark in (b"0x", b"0X")):
            self.has_hexadecimal = True
        self._last = piece[-1:]
        return piece


def _is_told_text(name: str, schema: pa.Schema, asked: Asked) -> bool:
    """Tell what is to be read as text: by its dtype, or since pandas leaves moments alone."""
    if _type_of(asked.dtype_for(name)) == pa.string():
        return True
    return name not in asked.dates and pa.types.is_temporal(schema.field(name).type)


def _frame(table: pa.Table, asked: Asked) -> pd.DataFrame | None:
    names = table.column_names
    nullable = [name for name in names if str(asked.dtype_for(name)) in _NULLABLE]
    for place, name in enumerate(names):
        column = _as_pandas(table.column(place), name, asked)
        if column is None:
            return None
        table = table.set_column(place, name, column)
    plain = table.drop_columns(nullable).to_pandas(self_destruct=True)
    if not nullable:
        return cast(pd.DataFrame, plain)
    others = table.select(nullable).to_pandas(types_mapper=NULLABLE.get)
    parts = {name: others[name] if name in nullable else plain[name] for name in names}
    return pd.DataFrame(parts, copy=False)


def _as_pandas(column: pa.ChunkedArray, name: str, asked: Asked) -> pa.ChunkedArray | None:
    """Return a column of the type that pandas gives it; None when pandas must say."""
    dtype = asked.dtype_for(name)
    if name in asked.dates:
        return _moments(column)
    if dtype is not None:
        wanted = _type_of(dtype)
        lacks = column.null_count and str(dtype) not in _NULLABLE and wanted in (pa.int64(), pa.bool_())
        return None if lacks or _is_other(column.type, wanted) else column.cast(wanted)
    if pa.types.is_null(column.type):
        return column.cast(pa.float64())
    if pa.types.is_string(column.type):
        return None if _may_be_numbers(column) else column
    if pa.types.is_floating(column.type):
        return None if _may_be_long_integers(column) else column
    if pa.types.is_integer(column.type) or (pa.types.is_boolean(column.type) and not column.null_count):
        return column
    return None


def _is_other(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether values are not of the kind that was asked for, so that pandas may raise or convert."""
    if found == wanted or pa.types.is_null(found):
        return False
    is_number = pa.types.is_integer(found) or pa.types.is_floating(found)
    return not is_number or wanted in (pa.string(), pa.bool_())


def _moments(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    kind = column.type
    is_exact = pa.types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns"
    return column.cast(pa.timestamp("us")) if is_exact or pa.types.is_date32(kind) else None


def _may_be_numbers(column: pa.ChunkedArray) -> bool:
    """Tell whether pandas might read numbers where pyarrow reads texts; one plain text rules that out."""
    for value in column.drop_null().slice(0, _SAMPLE).to_pylist():
        try:
            float(value)
        except ValueError:
            return False
    return True


def _may_be_long_integers(column: pa.ChunkedArray) -> bool:
    """Tell whether integers too long for 64 bits may have become floats."""
    ends = pc.min_max(column).as_py()
    return any(end is not None and abs(end) >= _INTEGERS_END for end in ends.values())


def stream_csv(path: Path, options: Options) -> pa.RecordBatchReader:
    """Return the rows as batches, in bounded memory, with the types that the file's first 16 MB suggest."""
    asked = Asked.of(path, options)
    columns = None
    if asked is not None:
        schema = asked.head(path, _HEAD_BYTES)
        columns = _columns(schema, asked)
    if asked is None or columns is None:
        return to_reader(iter(pd.read_csv(path, **{"chunksize": _ROWS_AT_ONCE, **options})))
    kept = pa.schema([(name, _streamed_type(name, schema, asked)) for name in columns])
    return pa.RecordBatchReader.from_batches(kept, _batches(path, asked, kept))


def _streamed_type(name: str, schema: pa.Schema, asked: Asked) -> pa.DataType:
    if name in asked.dates:
        return pa.timestamp("us")
    if asked.dtype_for(name) is not None:
        return _type_of(asked.dtype_for(name))
    found = schema.field(name).type
    return pa.string() if pa.types.is_temporal(found) or pa.types.is_null(found) else found


def _batches(path: Path, asked: Asked, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    types = dict(zip(schema.names, schema.types, strict=True))
    reading = arrow_csv.ReadOptions(block_size=_STREAMED_BYTES)
    try:
        with asked.opened(path) as stream:
            yield from arrow_csv.open_csv(
                stream, reading, asked.parsing(), asked.converting(schema.names, types)
            )
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableFile(
            f"{path} cannot be read: {' '.join(str(error).split())}. The types of its columns were told by "
            f"its beginning; where a value does not fit, say the type: dtype={{'column': 'float64'}}"
        ) from error
