"""Files that are written and read in batches, in bounded memory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.io.errors import ExportRefused
from pipelines.io.frames import to_pandas, to_reader

Options = Mapping[str, Any]

# Row groups are what readers take in parallel, and what lies in memory while it is written.
ROWS_PER_GROUP = 131_072
_GROUP_BYTES = 32 << 20
_ROWS_AT_ONCE = 50_000


def chunks(reader: pa.RecordBatchReader, rows: int, size: int) -> Iterator[pa.Table]:
    """Gather batches until they are that many rows or bytes; large ones are cut."""
    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in reader:
        for part in (batch.slice(start, rows) for start in range(0, batch.num_rows, rows)):
            held.append(part)
            held_rows, held_bytes = held_rows + part.num_rows, held_bytes + part.nbytes
            if held_rows >= rows or held_bytes >= size:
                yield pa.Table.from_batches(held)
                held, held_rows, held_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def write_parquet_batches(data: Any, path: Path, options: Options) -> int:
    given = {key: value for key, value in options.items() if key not in ("index", "row_group_size")}
    reader = to_reader(data, index=bool(options.get("index")))
    group = int(options.get("row_group_size") or ROWS_PER_GROUP)
    rows = 0
    with pq.ParquetWriter(path, reader.schema, **given) as writer:
        for table in chunks(reader, group, _GROUP_BYTES):
            writer.write_table(table, row_group_size=group)
            rows += table.num_rows
    return rows


def write_csv_batches(data: Any, path: Path, options: Options) -> int:
    """Write each batch as pandas writes a frame; the names of the columns once."""
    header = options.get("header", True)

    def write(frame: pd.DataFrame, file: TextIO, number: int) -> None:
        given = {key: value for key, value in options.items() if key not in _OURS}
        frame.to_csv(file, **{**given, "index": False, "header": header if number == 0 else False})

    reader = to_reader(data, index=bool(options.get("index")))
    if options.get("date_format") is None:
        reader = _with_moments_as_texts(reader)
    return _write_texts(reader, path, options, write)


def _with_moments_as_texts(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Write moments in full: pandas leaves the hour away where all moments of a batch are midnights.

    Those with a zone it writes one by one, whatever the others are.
    """
    schema = reader.schema
    for place, field in enumerate(schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            schema = schema.set(place, field.with_type(pa.string()))
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))


def write_line_batches(data: Any, path: Path, options: Options) -> int:
    def write(frame: pd.DataFrame, file: TextIO, number: int) -> None:
        given = {key: value for key, value in options.items() if key not in _OURS}
        if len(frame):  # of no rows pandas makes an empty line
            frame.to_json(file, **given)

    return _write_texts(to_reader(data, index=bool(options.get("index"))), path, options, write)


_OURS = frozenset({"compression", "encoding", "index"})


def _write_texts(
    reader: pa.RecordBatchReader,
    path: Path,
    options: Options,
    write: Callable[[pd.DataFrame, TextIO, int], None],
) -> int:
    rows = 0
    with _text(path, options) as file:
        write(to_pandas(reader.schema.empty_table()), file, 0)
        for number, batch in enumerate(reader, 1):
            write(to_pandas(pa.Table.from_batches([batch])), file, number)
            rows += batch.num_rows
    return rows


@contextmanager
def _text(path: Path, options: Options) -> Iterator[TextIO]:
    compression = options.get("compression")
    if compression not in (None, "infer", "gzip"):
        raise ExportRefused(f"streamed data is written plain or by gzip, not by {compression!r}")
    encoding = options.get("encoding") or "utf-8"
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if compression == "gzip":  # with neither name nor time: the same rows give the same bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(file, encoding=encoding, newline=""))


def stream_parquet(path: Path, options: Options) -> pa.RecordBatchReader:
    if set(options) <= {"columns"}:
        file = pq.ParquetFile(path)
        columns = options.get("columns")
        schema = file.schema_arrow
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in schema.names if name in columns])
        batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)
        return pa.RecordBatchReader.from_batches(schema, batches)
    return stream_dataset(ds.dataset(path, format="parquet"), options)


def stream_dataset(dataset: ds.Dataset, options: Options) -> pa.RecordBatchReader:
    little = {"batch_size": _ROWS_AT_ONCE, "batch_readahead": 2, "fragment_readahead": 1}
    return dataset.scanner(**{**little, **scanning(options)}).to_reader()


def scanning(options: Options) -> dict[str, Any]:
    """Return the options of a dataset's scan; `filters` is what the reader of one file calls its filter."""
    given = {key: value for key, value in options.items() if key != "filters"}
    if options.get("filters") is not None:
        given["filter"] = pq.filters_to_expression(options["filters"])
    return given


def stream_lines(path: Path, options: Options) -> pa.RecordBatchReader:
    frames = pd.read_json(path, **{"chunksize": _ROWS_AT_ONCE, **options, "lines": True})
    return to_reader(iter(frames))
