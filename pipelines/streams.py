"""Streams: outputs of blocks that may be larger than memory, on the disk, read a batch at a time.

The file holds segments, each an Arrow IPC stream with the schema that its batches came with, and a tail: the
one schema of all of them, and what is known beside it. See `pipelines.spooling` for the writing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pyarrow as pa

from pipelines.errors import CheckpointError
from pipelines.streamframes import FrameFacts, frame_of

FACTS = b"millrace.stream"
INDEX_PREFIX = "__index_"  # names of columns that hold levels of an index


@dataclass(frozen=True)
class Segment:
    """Batches of one schema, as a part of the file."""

    offset: int
    rows: int


class Stream:
    """An output larger than memory: an iterable of frames, readable any number of times.

    Iterating gives pandas frames, a few MB each, with the same dtypes in all of them. `batches()` and
    `reader()` give Arrow; what takes Arrow streams (DuckDB, Polars, pyarrow) takes a Stream as it is.
    """

    def __init__(self, path: Path, tail: int) -> None:
        self.path = path
        self.tail = tail

    @property
    def schema(self) -> pa.Schema:
        """The schema of all batches, the index of frames aside."""
        return pa.schema([field for field in self._stored if not field.name.startswith(INDEX_PREFIX)])

    @property
    def num_rows(self) -> int:
        return sum(segment.rows for segment in self._segments)

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def __len__(self) -> int:
        return self.num_rows

    def __bool__(self) -> bool:
        """Be true as every object is: whether a stream has rows is asked by `len(stream)`."""
        return True

    def batches(self, *, index: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield all batches, each with `schema`; `index` adds the levels of the frames' index in front."""
        wanted = self._with_index() if index else {name: name for name in self.schema.names}
        for batch in self._stored_batches():
            yield batch.select(list(wanted)).rename_columns(list(wanted.values()))

    def reader(self, *, index: bool = False) -> pa.RecordBatchReader:
        """Return a reader of all batches, for one pass."""
        schema = self.schema
        if index:
            fields = [self._stored.field(name).with_name(title) for name, title in self._with_index().items()]
            schema = pa.schema(fields)
        return pa.RecordBatchReader.from_batches(schema, self.batches(index=index))

    def to_arrow(self) -> pa.Table:
        """Read everything into memory, as an Arrow table."""
        return self.reader().read_all()

    def to_pandas(self) -> pd.DataFrame:
        """Read everything into memory, as one frame."""
        table = pa.Table.from_batches(self._stored_batches(), schema=self._stored)
        return frame_of(table, self._facts)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        row = 0
        for batch in self._stored_batches():
            frame = frame_of(pa.Table.from_batches([batch]), self._facts)
            if isinstance(frame.index, pd.RangeIndex):
                frame.index = pd.RangeIndex(row, row + len(frame))
            row += len(frame)
            yield frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<Stream of {self.num_rows:,} rows: {', '.join(self.schema.names)}>"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{_NO_FRAME}, which has no attribute {name!r}; {_REMEDY}")

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(f"{_NO_FRAME}, which has no [{key!r}]; {_REMEDY}")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(f"{_NO_FRAME}, and does not take [{key!r}] = ...; {_REMEDY}")

    def __reduce__(self) -> tuple[type[Stream], tuple[Path, int]]:
        return Stream, (self.path, self.tail)

    def _with_index(self) -> dict[str, str]:
        """Return the columns with the levels of the index in front, by stored name: what they are called."""
        names = self._facts.index
        level = "index" if len(names) == 1 else "level_{}"
        titles = [level.format(place) if name is None else str(name) for place, name in enumerate(names)]
        stored = {f"{INDEX_PREFIX}{place}": title for place, title in enumerate(titles)}
        return stored | {name: name for name in self.schema.names}

    def _stored_batches(self) -> Iterator[pa.RecordBatch]:
        for segment in self._segments:
            if segment.rows:
                yield from self._of_segment(segment)

    def _of_segment(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        # Not mapped into memory: pages of the file would be counted as the process's own.
        with self._opened() as file:
            file.seek(segment.offset)
            with pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    yield conformed(batch, self._stored)

    def _opened(self) -> Any:
        try:
            return pa.OSFile(str(self.path), "rb")
        except OSError as error:
            raise CheckpointError(f"the stream {self.path.name} cannot be read: {error}") from error

    @cached_property
    def _read_tail(self) -> tuple[pa.Schema, dict[str, Any]]:
        with self._opened() as file:
            file.seek(self.tail)
            with pa.ipc.open_stream(file) as tail:
                schema = tail.schema
        return schema.remove_metadata(), json.loads(schema.metadata[FACTS])

    @property
    def _stored(self) -> pa.Schema:
        return self._read_tail[0]

    @property
    def _facts(self) -> FrameFacts:
        return FrameFacts.of(self._read_tail[1])

    @property
    def _segments(self) -> list[Segment]:
        return [Segment(offset, rows) for offset, rows in self._read_tail[1]["segments"]]


_NO_FRAME = "this is a Stream (data larger than memory, read a batch at a time), not a DataFrame"
_REMEDY = (
    "iterate over it for frames, call .to_pandas() to read all of it, "
    "or mark the function stream=True, as in @transformer(stream=True), to be called for each frame"
)


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns and types of a schema; nulls for a column it lacks.

    pyarrow.ArrowInvalid when a value does not fit.
    """
    if batch.schema.equals(schema):
        return batch
    columns = [_conformed_column(batch, field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _conformed_column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    place = batch.schema.get_field_index(field.name)
    if place < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(place)
    return column if column.type.equals(field.type) else column.cast(field.type)
