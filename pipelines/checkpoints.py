"""Stored outputs of finished blocks: on the disk before anybody is told, and read back as they were.

One folder for each run. A checkpoint is described by its manifest, which is plain JSON and lives in the
block run's row: small values and frames are in it, made durable by the row's own commit; everything else is
in files it names. A file appears by rename and its name is never used again, so that a worker that was given
up for dead cannot change what a later one stored.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines import plain
from pipelines.crash import CrashPoints
from pipelines.errors import CheckpointError, NotStorableError
from pipelines.frames import read_frame, write_frame
from pipelines.io.polars_frames import is_lazy, is_polars, read_lazy, read_polars, write_polars
from pipelines.spooling import SUFFIX, Spools
from pipelines.streams import Stream

FORMAT = 1
INLINE_CHARACTERS = 4096  # plain values up to this size go into the manifest itself
INLINE_BYTES = 8192  # and so do frames: a file would cost them four waits for the disk
INLINE_CELLS = 1024  # larger ones are not tried

# Modules that block files are executed as; no other process could import what they define.
BLOCK_MODULE_PREFIX = "millrace_block_"


class Checkpoints:
    """The checkpoints under one folder."""

    def __init__(self, root: Path, crash: CrashPoints | None = None) -> None:
        self._root = root
        self._crash = crash or CrashPoints()

    @property
    def root(self) -> Path:
        """The folder that the outputs of all runs lie in."""
        return self._root

    def spools(self, run_id: str, block: str, attempt: int) -> Spools:
        """Return where an attempt of a block puts outputs that are larger than memory."""
        return Spools(self._root / quote(run_id, safe=""), quote(block, safe=""), attempt, self._crash)

    def save(
        self, run_id: str, block: str, attempt: int, outputs: Sequence[Any], *, allow_pickle: bool = False
    ) -> dict[str, Any]:
        """Store the outputs of a block and return their manifest. They are durable when this returns.

        Raises NotStorableError when an output has no lossless form, and OSError when the disk refuses.
        """
        checkpoint = _Writer(self._root, run_id, f"{quote(block, safe='')}.{attempt}", allow_pickle)
        try:
            manifest = checkpoint.write(outputs)
            if checkpoint.files:
                self._crash("checkpoint.before_rename")
                checkpoint.publish()
                self._crash("checkpoint.after_rename")
        except BaseException:
            checkpoint.withdraw()
            raise
        return manifest

    def load(self, manifest: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the outputs; CheckpointError when they are gone or damaged."""
        try:
            return tuple(
                plain.decode(self._value(manifest), lambda part: self._part(manifest["parts"][part]))
            )
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"a checkpoint cannot be read: {type(error).__name__}: {error}") from error

    def has(self, manifest: Mapping[str, Any]) -> bool:
        """Say whether everything the manifest names is there, in full."""
        if manifest.get("format") != FORMAT:
            return False
        return all(self._is_complete(part) for part in manifest["parts"])

    def discard(self, run_id: str) -> None:
        """Remove everything stored for a run."""
        shutil.rmtree(self._root / quote(run_id, safe=""), ignore_errors=True)

    def _value(self, manifest: Mapping[str, Any]) -> Any:
        if manifest.get("format") != FORMAT:
            raise CheckpointError(f"a checkpoint has the unknown format {manifest.get('format')!r}")
        if "value" in manifest:
            return manifest["value"]
        return self._part(manifest["parts"][-1])

    def _part(self, part: Mapping[str, Any]) -> Any:
        if "inline" in part:
            return _ARROW_LOADERS[part["kind"]](pa.BufferReader(base64.b64decode(part["inline"])), part)
        if not self._is_complete(part):
            raise CheckpointError(f"the checkpoint file {part['file']} is missing or cut short")
        path = self._root / part["file"]
        if part["kind"] == "stream":
            return Stream(path, part["tail"])
        if part["kind"] in _ARROW_LOADERS:
            with pa.memory_map(str(path)) as source:
                return _ARROW_LOADERS[part["kind"]](source, part)
        return _LOADERS[part["kind"]](path)

    def _is_complete(self, part: Mapping[str, Any]) -> bool:
        if "inline" in part:
            return True
        try:
            size: int = (self._root / part["file"]).stat().st_size
            return bool(size == part["bytes"])
        except OSError:
            return False


class _Writer:
    """The writing of one checkpoint: every output into a file of its own, under a temporary name."""

    def __init__(self, root: Path, run_id: str, stem: str, allow_pickle: bool) -> None:
        self._root = root
        self._folder = root / quote(run_id, safe="")
        self._stem = f"{stem}.{secrets.token_hex(4)}"
        self._allow_pickle = allow_pickle
        self._parts: list[dict[str, Any]] = []
        self.files: list[Path] = []

    def write(self, outputs: Sequence[Any]) -> dict[str, Any]:
        tree = plain.encode(list(outputs), self._store)
        text = json.dumps(tree)
        if len(text) <= INLINE_CHARACTERS:
            return {"format": FORMAT, "value": tree, "parts": self._parts}
        self._store_as("json", ".json", lambda path: path.write_text(text))
        return {"format": FORMAT, "parts": self._parts}

    def publish(self) -> None:
        for file in self.files:
            os.rename(_temporary(file), file)
        _sync_folder(self._folder)

    def withdraw(self) -> None:
        for file in self.files:
            for path in (file, _temporary(file)):
                path.unlink(missing_ok=True)

    def _store(self, value: Any) -> int:
        """Store a value that has no plain form as the next part, and return its number."""
        try:
            return self._store_natively(value)
        except NotStorableError:
            if not self._allow_pickle:
                raise
            return self._store_as("pickle", ".pickle", lambda path: _write_pickle(value, path))

    def _store_natively(self, value: Any) -> int:
        if type(value) is pd.DataFrame:
            return self._store_arrow("frame", value.size, lambda sink: write_frame(value, sink))
        if type(value) is pd.Series:
            name = plain.encode(value.name)
            frame = pd.DataFrame({"value": value}, copy=False)
            return self._store_arrow("series", value.size, lambda sink: write_frame(frame, sink), name=name)
        if type(value) is pa.Table:
            cells = value.num_rows * value.num_columns
            return self._store_arrow("table", cells, lambda sink: _write_table(value, sink))
        if type(value) is pa.RecordBatch:
            cells = value.num_rows * value.num_columns
            table = pa.Table.from_batches([value])
            return self._store_arrow("batch", cells, lambda sink: _write_table(table, sink))
        if is_polars(value):
            return self._store_as("polars", ".arrow", lambda path: write_polars(value, path))
        if is_lazy(value):
            frame = value.collect(engine="streaming")
            return self._store_as("lazy", ".arrow", lambda path: write_polars(frame, path))
        if type(value) is Stream:
            return self._store_stream(value)
        if type(value) is np.ndarray and not value.dtype.hasobject:
            return self._store_as("array", ".npy", lambda path: _write_array(value, path))
        return plain.no_parts(value)

    def _store_arrow(self, kind: str, cells: int, write: Callable[[Any], None], **facts: Any) -> int:
        if cells <= INLINE_CELLS:
            sink = pa.BufferOutputStream()
            write(sink)
            data = sink.getvalue()
            if data.size <= INLINE_BYTES:
                inline = base64.b64encode(data).decode()
                self._parts.append({"kind": kind, "inline": inline, **facts})
                return len(self._parts) - 1
        return self._store_as(kind, ".arrow", lambda path: _write_arrow(write, path), **facts)

    def _store_stream(self, stream: Stream) -> int:
        """Name the file of a stream, which is durable already; of another run, it is put into this one's."""
        if stream.path.parent != self._folder:
            return self._store_as("stream", SUFFIX, lambda path: _linked(stream.path, path), tail=stream.tail)
        file = stream.path.relative_to(self._root).as_posix()
        size = stream.path.stat().st_size
        self._parts.append({"kind": "stream", "file": file, "bytes": size, "tail": stream.tail})
        return len(self._parts) - 1

    def _store_as(self, kind: str, suffix: str, write: Callable[[Path], Any], **facts: Any) -> int:
        self._make_folder()
        file = self._folder / f"{self._stem}.{len(self.files)}{suffix}"
        temporary = _temporary(file)
        try:
            write(temporary)
            size = _sync_file(temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.files.append(file)
        name = file.relative_to(self._root).as_posix()
        self._parts.append({"kind": kind, "file": name, "bytes": size, **facts})
        return len(self._parts) - 1

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir()
        except FileExistsError:
            return
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(self._root)


def _temporary(file: Path) -> Path:
    return file.with_name(file.name + ".tmp")


def _sync_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_arrow(write: Callable[[Any], None], path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink:
        write(sink)


def _linked(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # it lies on another disk
        shutil.copyfile(source, path)


def _write_table(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _write_array(array: Any, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _write_pickle(value: Any, path: Path) -> None:
    modules = [module for name, module in sys.modules.items() if name.startswith(BLOCK_MODULE_PREFIX)]
    with contextlib.ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        try:
            data = cloudpickle.dumps(value)
        except Exception as error:
            raise NotStorableError(f"a {type(value).__qualname__} cannot be pickled: {error}") from error
    path.write_bytes(data)


def _load_series(source: Any, part: Mapping[str, Any]) -> Any:
    return read_frame(source).iloc[:, 0].rename(plain.decode(part["name"]))


def _load_table(source: Any, part: Mapping[str, Any]) -> pa.Table:
    with pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _load_batch(source: Any, part: Mapping[str, Any]) -> pa.RecordBatch:
    with pa.ipc.open_file(source) as reader:
        if not reader.num_record_batches:  # it had no rows
            return pa.RecordBatch.from_pylist([], schema=reader.schema)
        return reader.get_batch(0)


_ARROW_LOADERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "frame": lambda source, part: read_frame(source),
    "series": _load_series,
    "table": _load_table,
    "batch": _load_batch,
}
_LOADERS: Mapping[str, Callable[[Path], Any]] = {
    "polars": read_polars,
    "lazy": read_lazy,
    "array": lambda path: np.load(path, allow_pickle=False),
    "json": lambda path: json.loads(path.read_text()),
    "pickle": lambda path: cloudpickle.loads(path.read_bytes()),
}
