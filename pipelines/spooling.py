"""Writes streams as they pass: frames of any size and of drifting types into one file, in bounded memory.

Held in memory are the frame that has just come and the few MB that wait to become one batch. The file is
made durable and appears by a rename; when anything fails, nothing of it stays. See `pipelines.streams` for
its form.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.crash import CrashPoints
from pipelines.drift import Columns, dtype_name
from pipelines.errors import MillraceError
from pipelines.io.frames import to_arrow
from pipelines.streams import FACTS, INDEX_PREFIX, Stream, conformed
from pipelines.unifying import TypesDiffer, may_lose

BATCH_BYTES = 4 * 2**20  # of Arrow data in one batch: small enough to hold several, large enough to be quick
SUFFIX = ".stream"

Warn = Callable[[str], None]


class SpoolFailed(MillraceError):
    """The disk did not take a stream."""


class Spools:
    """The streams of one attempt of one block, in the folder of its run."""

    def __init__(self, folder: Path, stem: str, attempt: int, crash: CrashPoints) -> None:
        self._folder = folder
        self._stem = stem
        self._attempt = attempt
        self._crash = crash
        self._written: list[Path] = []

    def write(self, frames: Iterable[Any], warn: Warn) -> Stream:
        """Write frames as they come and return the stream of them. It is durable when this returns.

        What getting a frame raises comes out as it is; TypesDiffer tells of frames that do not go together,
        SpoolFailed of the disk.
        """
        path = self._folder / f"{self._stem}.{self._attempt}.{secrets.token_hex(4)}{SUFFIX}"
        if not self._written:
            self._remove_half_files()
        self._written.append(path)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            tail = _spooled(frames, temporary, warn)
            self._crash("checkpoint.before_rename")
            with _on_disk(path):
                temporary.rename(path)
                _sync(self._folder)
            self._crash("checkpoint.after_rename")
        except BaseException:
            temporary.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return Stream(path, tail)

    def withdraw(self) -> None:
        """Remove what was written: the block has failed."""
        for path in self._written:
            path.unlink(missing_ok=True)

    def _remove_half_files(self) -> None:
        """Make the folder, and remove from it what killed attempts of this block were writing."""
        half = re.compile(rf"{re.escape(self._stem)}\.\d+\.[0-9a-f]{{8}}{re.escape(SUFFIX)}\.tmp")
        with _on_disk(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                if half.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def _spooled(frames: Iterable[Any], path: Path, warn: Warn) -> int:
    """Write frames to a file, and return where its tail is."""
    file = _StreamFile(path)
    writing = _Writing(file, warn)
    try:
        for number, frame in enumerate(frames, 1):
            writing.add(number, frame)
            del frame  # while the next one is made, this one need not be there
        return writing.finish()
    finally:
        file.close()


class _Writing:
    """Turns frames into batches of one size, and of as few schemas as there are."""

    def __init__(self, file: _StreamFile, warn: Warn) -> None:
        self._file = file
        self._columns = Columns(warn)
        self._schema = pa.schema([])
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._index: tuple[Any, ...] | None = None  # names of the index's levels; None before any frame
        self._without_rows: tuple[pa.Table, list[str | None]] | None = None

    def add(self, number: int, frame: Any) -> None:
        table, dtypes = self._table(number, frame)
        if not table.num_rows:
            if table.column_names and self._without_rows is None:
                self._without_rows = table, dtypes
            return
        self._columns.take(number, table, dtypes)
        if not self._columns.schema.equals(self._schema):
            self._write_pending()
            self._schema = self._columns.schema
        for batch in table.to_batches():
            self._pending.append(_fitted(batch, self._schema, number))
            self._pending_bytes += batch.nbytes
        if self._pending_bytes >= BATCH_BYTES:
            self._write_pending()

    def finish(self) -> int:
        """Write what is left and the tail, and return where that is."""
        self._write_pending()
        if not self._schema.names and self._without_rows is not None:
            self._columns.take(1, *self._without_rows)
        self._columns.settle()
        schema = self._columns.schema
        self._check_casts(schema)
        return self._file.finish(schema, {**self._columns.facts(), "index": list(self._index or ())})

    def _table(self, number: int, frame: Any) -> tuple[pa.Table, list[str | None]]:
        """Return a frame as Arrow, with the index that is kept, and the names of its dtypes."""
        if not isinstance(frame, pd.DataFrame):
            self._check_index(number, ())
            table = to_arrow(frame)
            return table, [None] * table.num_columns
        levels = _kept_levels(frame.index)
        self._check_index(number, () if levels is None else tuple(frame.index.names))
        return _with_levels(frame, levels)

    def _check_index(self, number: int, names: tuple[Any, ...]) -> None:
        if self._index is None:
            self._index = names
        if self._index != names:
            raise TypesDiffer(
                f"the index of frame {number} has the levels {list(names)!r}, and {list(self._index)!r} in "
                f"the frames before; call reset_index() on each frame"
            )

    def _write_pending(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            table = table.combine_chunks() if len(self._pending) > 1 else table
            pieces = max(1, round(self._pending_bytes / BATCH_BYTES))
            for batch in table.to_batches(max_chunksize=-(-table.num_rows // pieces)):
                self._file.write(batch)
        self._pending, self._pending_bytes = [], 0

    def _check_casts(self, schema: pa.Schema) -> None:
        """Read segments again whose values may not fit the types that were found after them."""
        for number, early in enumerate(self._file.schemas):
            doubtful = [
                name
                for name in early.names
                if (last := schema.field(name).type) != early.field(name).type
                and may_lose(early.field(name).type, last)
            ]
            for batch in self._file.batches(number) if doubtful else ():
                for name in doubtful:
                    self._check_cast(batch.column(name), schema.field(name))

    def _check_cast(self, column: pa.Array, wanted: pa.Field) -> None:
        try:
            column.cast(wanted.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            since = self._columns.since(wanted.name)
            raise TypesDiffer(
                f"column {wanted.name!r} is {column.type} in the frames before frame {since}, and with that "
                f"frame {wanted.type}, which does not hold all values of those before: {error}; give the "
                f"column one type in all frames, for instance by astype()"
            ) from error


class _StreamFile:
    """The file of one stream while it is written: segments of one schema each, then the tail."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._writer: Any = None
        self._offsets: list[int] = []
        self._rows: list[int] = []
        self.schemas: list[pa.Schema] = []  # of the segments

    def write(self, batch: pa.RecordBatch) -> None:
        with _on_disk(self._path):
            if not self.schemas or not self.schemas[-1].equals(batch.schema):
                self._begin(batch.schema)
                self.schemas.append(batch.schema)
                self._rows.append(0)
            self._writer.write_batch(batch)
            self._rows[-1] += batch.num_rows

    def batches(self, segment: int) -> Iterable[pa.RecordBatch]:
        """Yield what a segment that is whole holds."""
        with _on_disk(self._path):
            self._end()
            self._file.flush()
        with pa.OSFile(str(self._path), "rb") as file:
            file.seek(self._offsets[segment])
            with pa.ipc.open_stream(file) as batches:
                yield from batches

    def finish(self, schema: pa.Schema, facts: dict[str, Any]) -> int:
        """Write the tail, make the file durable, and return where the tail is."""
        segments = list(zip(self._offsets, self._rows, strict=True))
        text = json.dumps({**facts, "segments": segments})
        with _on_disk(self._path):
            self._begin(schema.with_metadata({FACTS: text.encode()}))
            self._end()
            self.close()
            _sync(self._path)
        return self._offsets[-1]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self, schema: pa.Schema) -> None:
        self._end()
        if self._file is None:
            self._file = pa.OSFile(str(self._path), "wb")
        self._offsets.append(self._file.tell())
        self._writer = pa.ipc.new_stream(
            self._file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        )

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _on_disk:  # noqa: N801 - reads as a phrase in `with`
    """Tell in one sentence what the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise SpoolFailed(
                f"the output of the block could not be written to {self._path.parent}: {reason}. "
                f"Outputs larger than memory are kept there while their run lasts; make room, or let "
                f"checkpoints lie on another disk"
            ) from error


def _kept_levels(index: pd.Index[Any]) -> pd.DataFrame | None:
    """Return the levels of an index; None where they are only numbers of rows."""
    is_numbered = index.nlevels == 1 and index.name is None and pd.api.types.is_integer_dtype(index.dtype)
    return None if isinstance(index, pd.RangeIndex) or is_numbered else index.to_frame(index=False)


def _with_levels(frame: pd.DataFrame, index: pd.DataFrame | None) -> tuple[pa.Table, list[str | None]]:
    """Return a frame as Arrow, the levels of its index in front."""
    dtypes = [dtype_name(dtype) for dtype in frame.dtypes]
    if index is None:
        return (to_arrow(frame) if dtypes else pa.table({})), dtypes
    titles = [f"{INDEX_PREFIX}{place}" for place in range(index.shape[1])]
    levels = to_arrow(index.set_axis(titles, axis=1))
    table = to_arrow(frame) if dtypes else pa.table({})
    return (
        pa.table([*levels.columns, *table.columns], names=[*titles, *table.column_names]),
        [*(dtype_name(dtype) for dtype in index.dtypes), *dtypes],
    )


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, number: int) -> pa.RecordBatch:
    """Return a batch with the types that all frames so far have in common."""
    for place, column in enumerate(batch.columns):
        if column.null_count == len(column):  # of whatever type: it may have no cast
            name = batch.schema.names[place]
            batch = batch.set_column(place, name, pa.nulls(len(column), schema.field(name).type))
    try:
        return conformed(batch, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypesDiffer(
            f"frame {number} holds values that do not fit the type their column had before: {error}; give "
            f"the column one type in all frames, for instance by astype()"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
