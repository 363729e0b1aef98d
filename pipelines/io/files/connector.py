"""The connector for files on the machine's own disks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa

from pipelines.io.base import Connector, IfExists, Policy
from pipelines.io.duckdb import DuckDB, DuckDBSettings
from pipelines.io.effects import Write
from pipelines.io.errors import ConnectorError, ExportRefused, TargetExists, UnreadableFile
from pipelines.io.files.appearing import mark, put_file, rows_marked, written_aside
from pipelines.io.files.batches import stream_dataset
from pipelines.io.files.datasets import append_to_dataset, dataset_of, read_dataset, replace_dataset
from pipelines.io.files.formats import DAMAGED, compression_of, format_of
from pipelines.io.frames import FrameKind
from pipelines.io.sqltext import literal

if TYPE_CHECKING:
    from pipelines.io.config import Profile


@dataclass(frozen=True)
class FilesSettings:
    """The keys of a profile that concern files."""

    profile: str
    root: Path

    @classmethod
    def of(cls, profile: Profile) -> FilesSettings:
        root = Path(str(profile.get("FILES_ROOT") or ".")).expanduser()
        return cls(profile.name, (profile.root / root).absolute())


class Files(Connector):
    """Loads and exports CSV, JSON, JSON lines, Parquet and Excel files, and partitioned Parquet datasets.

    Relative paths lie in the profile's FILES_ROOT (the project's folder by default) and do not leave it.
    A file appears by a rename when it is whole; a dataset is swapped. Addresses are not read here.
    """

    name: ClassVar[str] = "files"

    def __init__(self, settings: FilesSettings) -> None:
        self._settings = settings

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(FilesSettings.of(profile))

    def load(
        self,
        query: str | Path,
        format: str | None = None,
        frame: FrameKind = "pandas",
        **options: Any,
    ) -> Any:
        """Return the rows of a file, or of a dataset when the path is a folder.

        The format is told by the ending, `.gz` aside, unless it is given. Options go to the reader: of
        pandas for CSV, JSON and Excel, of pyarrow for Parquet. CSV is read by pyarrow, in several threads,
        where that gives the frame that pandas would.
        """
        path = self.path(query)
        with self._readable(path):
            if path.is_dir():
                return read_dataset(path, options, frame)
            return format_of(path, format).load(path, frame, options)

    def stream(self, query: str | Path, format: str | None = None, **options: Any) -> pa.RecordBatchReader:
        """Return the rows of a CSV, JSON lines or Parquet file, or of a dataset, in bounded memory.

        The types of CSV columns are told by the beginning of the file unless `dtype` says them.
        """
        path = self.path(query)
        with self._readable(path):
            if path.is_dir():
                reader = stream_dataset(dataset_of(path), options)
            else:
                reader = format_of(path, format).batches(path, options)
        return pa.RecordBatchReader.from_batches(reader.schema, self._told(path, reader))

    def _told(self, path: Path, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        with self._readable(path):
            yield from reader

    def export(
        self,
        df: Any,
        path: str | Path = "",
        format: str | None = None,
        partition_cols: str | Sequence[str] | None = None,
        if_exists: str = "replace",
        index: bool = False,
        **options: Any,
    ) -> int:
        """Write a file, or with `partition_cols` a dataset, and return its rows.

        `append` adds files to a dataset; a single file takes `replace` and `fail`.
        """
        if not str(path):
            raise ExportRefused("export() needs path: the file or folder to write")
        target = self.path(path)
        policy = Policy.of(if_exists).of_next_write(f"files:{target}").if_exists
        write = Write.next(f"files:{target}")
        rows = rows_marked(target, write.token)
        if rows is None:
            rows = self._written(
                df, target, format, partition_cols, policy, {"index": index, **options}, write
            )
        else:
            write.found(rows)
        write.wrote(rows)
        return rows

    @classmethod
    def _written(
        cls,
        df: Any,
        target: Path,
        format: str | None,
        partition_cols: str | Sequence[str] | None,
        policy: IfExists,
        options: dict[str, Any],
        write: Write,
    ) -> int:
        if policy is IfExists.FAIL and target.exists():
            raise TargetExists(f"{target} exists already, and the export says if_exists='fail'")
        if partition_cols is None:
            return cls._export_file(df, target, format, policy, options, write)
        columns = [partition_cols] if isinstance(partition_cols, str) else list(partition_cols)
        add = append_to_dataset if policy is IfExists.APPEND else replace_dataset
        given = {name: value for name, value in options.items() if name != "index"}
        with _writable(target):
            return add(df, target, columns, write=write, options=given)

    @staticmethod
    def _export_file(
        df: Any, target: Path, format: str | None, policy: IfExists, options: dict[str, Any], write: Write
    ) -> int:
        if policy is IfExists.APPEND:
            raise ExportRefused(
                f"cannot append to the file {target}: "
                f"export a dataset with partition_cols, or replace the file"
            )
        found = format_of(target, format)
        compression = compression_of(target)
        if compression is not None:
            options = {"compression": compression, **options}
        with written_aside(target, write.token) as aside, _writable(target):
            rows = found.write(df, aside, options)
            mark(aside, write.token, rows)
            put_file(aside, target, write.crash)
        return rows

    def execute(self, query: str, **binds: Any) -> int:
        """Run SQL over files by a DuckDB in memory, and return how many rows the last statement touched.

        Relative paths in the query lie in FILES_ROOT: `SELECT * FROM 'trips.parquet'`.
        """
        settings = DuckDBSettings(self._settings.profile, ":memory:", "main", lock_timeout=0)
        with DuckDB(settings) as database:
            database.execute(f"SET file_search_path = {literal(str(self._settings.root))}")
            return database.execute(query, **binds)

    def exists(self, path: str | Path) -> bool:
        return self.path(path).exists()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def path(self, given: str | Path) -> Path:
        """Return where a path lies. ConnectorError when it is an address, or leaves FILES_ROOT."""
        if "://" in str(given):
            raise ConnectorError(
                f"Files works with local paths, and {str(given)!r} is an address; "
                f"read it with pandas or requests"
            )
        path = Path(given).expanduser()
        if path.is_absolute():
            return path
        found = (self._settings.root / path).resolve()
        if not found.is_relative_to(self._settings.root.resolve()):
            raise ConnectorError(
                f"the path {str(given)!r} leaves the folder of profile {self._settings.profile!r}, "
                f"{self._settings.root}; use a path inside, an absolute path, or another FILES_ROOT"
            )
        return found

    @contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise UnreadableFile(
                f"there is no {path}; relative paths lie in {self._settings.root} "
                f"(FILES_ROOT of profile {self._settings.profile!r})"
            ) from error
        except DAMAGED as error:
            raise UnreadableFile(f"{path} cannot be read: {' '.join(str(error).split())}") from error


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ExportRefused(f"cannot write {target}: {' '.join(str(error).split())}") from error
