"""The local files through which the rows of objects pass."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.io.errors import ExportRefused, UnreadableFile
from pipelines.io.files.datasets import read_dataset
from pipelines.io.files.formats import DAMAGED, compression_of, format_of

Options = Mapping[str, Any]

_ZSTD = ".zst"


def load_file(path: Path, format: str | None, frame: Any, options: Options) -> Any:
    """Return the rows of a file as the kind of frame asked for."""
    path = _unpacked(path)
    return format_of(path, format).load(path, frame, options)


def load_dataset(folder: Path, frame: Any, options: Options) -> Any:
    """Return the rows of all files below a folder."""
    return read_dataset(folder, options, frame)


def stream_file(path: Path, format: str | None, options: Options) -> pa.RecordBatchReader:
    """Return the rows of a file in batches; JSON and Excel files are read as a whole first."""
    path = _unpacked(path)
    return format_of(path, format).batches(path, options)


def write_file(data: Any, path: Path, format: str | None, options: Options) -> int:
    """Write rows to a file and return how many; a path of a local file is copied, and counts none."""
    if isinstance(data, str | Path):
        return _copied(Path(data), path)
    plain = path.with_suffix("") if path.suffix == _ZSTD else path
    found = format_of(plain, format)
    compression = compression_of(plain)
    with writable(path.name):
        rows = found.write(data, plain, {"compression": compression, **options} if compression else options)
        if plain != path:
            _pack(plain, path)
    return rows


@contextmanager
def readable(address: str) -> Iterator[None]:
    """Say what is wrong with a file that came from there."""
    try:
        yield
    except DAMAGED as error:
        raise UnreadableFile(f"{address} cannot be read: {' '.join(str(error).split())}") from error


@contextmanager
def writable(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ExportRefused(f"cannot write {name}: {' '.join(str(error).split())}") from error


def _copied(source: Path, path: Path) -> int:
    try:
        shutil.copyfile(source.expanduser(), path)
    except OSError as error:
        raise ExportRefused(f"the file {source} cannot be exported: {error.strerror}") from error
    return 0


def _pack(plain: Path, packed: Path) -> None:
    with plain.open("rb") as source, pa.CompressedOutputStream(str(packed), "zstd") as target:
        shutil.copyfileobj(source, target)


def _unpacked(path: Path) -> Path:
    if path.suffix != _ZSTD:
        return path
    plain = path.with_suffix("")
    with pa.CompressedInputStream(str(path), "zstd") as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target)
    return plain
