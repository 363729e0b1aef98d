"""How each format is read and written. A path's ending says which one it is."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.io.errors import ConnectorError
from pipelines.io.files.batches import (
    ROWS_PER_GROUP,
    stream_lines,
    stream_parquet,
    write_csv_batches,
    write_line_batches,
    write_parquet_batches,
)
from pipelines.io.files.csvreading import read_csv, stream_csv
from pipelines.io.frames import FrameKind, give, is_streamed, to_arrow, to_pandas, to_reader

Options = Mapping[str, Any]

# What readers raise for files that are cut, damaged, or something else than they claim to be.
DAMAGED = (
    EOFError,
    OSError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    pa.ArrowException,
    pd.errors.ParserError,
)


@dataclass(frozen=True, slots=True)
class Format:
    """One format: how a path becomes a frame, and data a file."""

    endings: tuple[str, ...]
    read: Callable[[Path, Options], pd.DataFrame]
    write: Callable[[Any, Path, Options], int]  # the rows written; data that is streamed, in batches
    stream: Callable[[Path, Options], pa.RecordBatchReader] | None = None  # None: only the whole at once
    table: Callable[[Path, Options], pa.Table] | None = None  # None: only by way of pandas

    def load(self, path: Path, frame: FrameKind, options: Options) -> Any:
        """Return the rows as the kind of frame that is asked for."""
        if frame == "pandas":
            return self.read(path, options)
        table = to_arrow(self.read(path, options)) if self.table is None else self.table(path, options)
        return give(table, frame)

    def batches(self, path: Path, options: Options) -> pa.RecordBatchReader:
        """Return the rows in batches; a format that has none is read as a whole first."""
        return to_reader(self.read(path, options)) if self.stream is None else self.stream(path, options)


def format_of(path: Path, named: str | None) -> Format:
    """Return the format of that name, or the one that the path's ending tells."""
    if named is not None:
        if named.lower() not in FORMATS:
            raise ConnectorError(f"format {named!r} is not known; use one of {', '.join(FORMATS)}")
        return FORMATS[named.lower()]
    name = path.name.lower().removesuffix(".gz")
    for found in FORMATS.values():
        if name.endswith(found.endings):
            return found
    raise ConnectorError(
        f"the name {path.name!r} does not tell its format; pass format=, one of {', '.join(FORMATS)}"
    )


def compression_of(path: Path) -> str | None:
    """Return how a file of that name is compressed."""
    return "gzip" if path.name.lower().endswith(".gz") else None


@contextmanager
def _text(path: Path, options: Options) -> Iterator[tuple[Path | TextIO, Options]]:
    """Give what pandas is to write to, and the options left for it.

    We compress by gzip ourselves: with neither a time nor the name of the file before its rename, so that
    the same rows give the same bytes.
    """
    if options.get("compression") != "gzip":
        yield path, options
        return
    given = {key: value for key, value in options.items() if key != "compression"}
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding=given.pop("encoding", "utf-8"), newline="") as text,
    ):
        yield text, given


def as_frame(data: Any) -> pd.DataFrame:
    """Return what a block exports as a frame, for the formats that pandas writes."""
    return data if isinstance(data, pd.DataFrame) else to_pandas(to_arrow(data))


def as_table(data: Any, *, index: bool = False) -> pa.Table:
    """Return what a block exports as Arrow, with what pandas needs to make the same frame of it again."""
    table = to_arrow(data, index=index)
    if not isinstance(data, pd.DataFrame):
        return table
    empty = (data.reset_index() if index else data).iloc[:0]
    return table.replace_schema_metadata(pa.Schema.from_pandas(empty, preserve_index=False).metadata)


def table_to_frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table from a file as a frame, with the dtypes it had when it was written."""
    extensions = [
        place for place, column in enumerate(table.columns) if isinstance(column.type, pa.BaseExtensionType)
    ]
    objects = {place: _values(table.column(place)) for place in extensions}
    if b"pandas" not in (table.schema.metadata or {}):
        return to_pandas(table, objects)
    plain = [place for place in range(table.num_columns) if place not in objects]
    frame: pd.DataFrame = table.select(plain).to_pandas()
    for place, values in objects.items():
        frame.insert(place, table.column_names[place], pd.Series(values, dtype=object, index=frame.index))
    return frame


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if column.type != pa.json_():
        return values
    return [None if text is None else json.loads(text) for text in values]


def _write_csv(data: Any, path: Path, options: Options) -> int:
    if is_streamed(data):
        return write_csv_batches(data, path, options)
    frame = as_frame(data)
    with _text(path, options) as (target, given):
        frame.to_csv(target, **{"index": False, **given})
    return len(frame)


def _read_json(path: Path, options: Options) -> pd.DataFrame:
    return cast(pd.DataFrame, pd.read_json(path, **options))


_JSON_FORMS = {"orient": "records", "date_format": "iso", "date_unit": "us", "force_ascii": False}


def _write_json(data: Any, path: Path, options: Options) -> int:
    frame = as_frame(data)
    with _text(path, options) as (target, given):
        frame.to_json(
            target, **{**_JSON_FORMS, **{key: value for key, value in given.items() if key != "index"}}
        )
    return len(frame)


def _read_lines(path: Path, options: Options) -> pd.DataFrame:
    return _read_json(path, {"lines": True, **options})


def _write_lines(data: Any, path: Path, options: Options) -> int:
    given = {"lines": True, **options}
    if is_streamed(data):
        return write_line_batches(data, path, {**_JSON_FORMS, **given})
    return _write_json(data, path, given)


def _read_parquet(path: Path, options: Options) -> pd.DataFrame:
    return table_to_frame(_read_parquet_table(path, options))


def _read_parquet_table(path: Path, options: Options) -> pa.Table:
    return pq.read_table(path, partitioning=None, **options)


def _write_parquet(data: Any, path: Path, options: Options) -> int:
    if is_streamed(data):
        return write_parquet_batches(data, path, options)
    given = {key: value for key, value in options.items() if key != "index"}
    table = as_table(data, index=bool(options.get("index")))
    pq.write_table(table, path, **{"row_group_size": ROWS_PER_GROUP, **given})
    return int(table.num_rows)


def _read_excel(path: Path, options: Options) -> pd.DataFrame:
    with _openpyxl_named():
        return cast(pd.DataFrame, pd.read_excel(path, **options))


def _write_excel(data: Any, path: Path, options: Options) -> int:
    given = {key: value for key, value in options.items() if key != "compression"}
    frame = as_frame(data)
    with _openpyxl_named(), path.open("wb") as file:
        frame.to_excel(file, engine="openpyxl", **{"index": False, **given})
    return len(frame)


class _openpyxl_named:  # noqa: N801 - reads as a verb phrase in `with`
    """Say in one line what to install when the library for Excel is not there."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportError):
            raise ConnectorError(
                "Excel files need openpyxl, which is not installed: pip install openpyxl"
            ) from error


FORMATS = {
    "csv": Format((".csv",), read_csv, _write_csv, stream_csv),
    "json": Format((".json",), _read_json, _write_json),
    "jsonl": Format((".jsonl", ".ndjson"), _read_lines, _write_lines, stream_lines),
    "parquet": Format(
        (".parquet", ".pq"), _read_parquet, _write_parquet, stream_parquet, _read_parquet_table
    ),
    "excel": Format((".xlsx", ".xls"), _read_excel, _write_excel),
}
