"""What the connectors of object stores share: objects as files of one format, and datasets of many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pyarrow as pa

from pipelines.io.base import Connector, IfExists, Policy
from pipelines.io.errors import ConnectorError, ExportRefused
from pipelines.io.files.batches import stream_dataset
from pipelines.io.files.datasets import dataset_of
from pipelines.io.objects.datasets import Dataset
from pipelines.io.objects.lasting import LastingFolder, lasting
from pipelines.io.objects.local import load_dataset, load_file, readable, stream_file
from pipelines.io.objects.single import export_object
from pipelines.io.objects.store import ObjectMissing, Store
from pipelines.io.objects.write import ObjectWrite


class ObjectConnector(Connector):
    """Loads and exports objects: CSV, JSON, JSON lines, Parquet and Excel (also `.gz`, `.zst`), datasets.

    An object appears whole, and only if nobody else wrote it since the export began. A dataset is a folder
    of Parquet objects; see `pipelines.io.objects.datasets`. Data passes through a temporary file of this
    machine, never through memory as a whole. Instead of a bucket and a key, `load` takes an address too.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._keeps = False

    @abstractmethod
    def _opened(self) -> Store:
        """Connect."""

    def load(
        self,
        bucket_name: str,
        object_key: str | None = None,
        format: str | None = None,
        frame: str = "pandas",
        **options: Any,
    ) -> Any:
        """Return the rows of an object, or of the dataset below that key, as the kind of frame asked for.

        The format is told by the ending, unless it is given. Options go to the reader: of pandas for CSV,
        JSON and Excel, of pyarrow for Parquet. UnreadableFile when there is nothing, or it is damaged.
        """
        with TemporaryDirectory(prefix="millrace-") as folder:
            path, address = self._fetched(bucket_name, object_key, Path(folder))
            with readable(address):
                if path.is_dir():
                    return load_dataset(path, frame, options)
                return load_file(path, format, frame, options)

    def stream(
        self, bucket_name: str, object_key: str | None = None, format: str | None = None, **options: Any
    ) -> pa.RecordBatchReader:
        """Return the rows of an object, or of a dataset, as Arrow batches, for one pass in bounded memory.

        What was downloaded stays on the disk until the reader is dropped.
        """
        folder = LastingFolder()
        path, address = self._fetched(bucket_name, object_key, folder.path)
        with readable(address):
            if path.is_dir():
                return lasting(stream_dataset(dataset_of(path), options), folder, address)
            return lasting(stream_file(path, format, options), folder, address)

    def export(
        self,
        data: Any,
        bucket_name: str = "",
        object_key: str = "",
        format: str | None = None,
        partition_cols: str | Sequence[str] | None = None,
        if_exists: str = "replace",
        index: bool = False,
        **options: Any,
    ) -> int:
        """Write an object, or with `partition_cols` a dataset, and return its rows.

        `data` is a frame, streamed data, or the path of a local file, which is uploaded as it is and counts
        no rows. `append` adds objects to a dataset; a single object takes `replace` and `fail`. What a block
        has written is not written again when the block is tried again.
        """
        if not bucket_name or not object_key:
            raise ExportRefused("export() needs bucket_name and object_key: where to write")
        target = f"{self.name}:{bucket_name}/{object_key}"
        policy = _policy(if_exists).of_next_write(target).if_exists
        write = ObjectWrite.next(target)
        with self._connected() as store:
            if partition_cols is None:
                place = (store, bucket_name, str(object_key))
                rows = export_object(*place, data, format, policy, write, {"index": index, **options})
            else:
                columns = [partition_cols] if isinstance(partition_cols, str) else [*partition_cols]
                rows = Dataset(store, bucket_name, str(object_key)).export(
                    data, columns, policy, write, options
                )
        write.wrote(rows)
        return rows

    def exists(self, bucket_name: str, prefix: str) -> bool:
        """Tell whether there is an object whose name begins with the prefix."""
        with self._connected() as store:
            return any(not seen.is_marker for seen in store.listed(bucket_name, prefix))

    def list(self, bucket_name: str, prefix: str = "") -> list[str]:
        """Return the names of the objects that begin with the prefix, in their order, without markers."""
        with self._connected() as store:
            return [seen.name for seen in store.listed(bucket_name, prefix) if not seen.is_marker]

    def execute(self, query: str, **binds: Any) -> NoReturn:
        """Raise: objects take no statements."""
        raise ConnectorError(
            f"{type(self).__name__} runs no statements; load the object, or read it by a SQL block on DuckDB"
        )

    def close(self) -> None:
        store, self._store = self._store, None
        self._keeps = False
        if store is not None:
            store.close()

    def __enter__(self) -> Any:
        self._keeps = True
        return self

    @contextmanager
    def _connected(self) -> Iterator[Store]:
        if self._store is None:
            self._store = self._opened()
        try:
            yield self._store
        finally:
            if not self._keeps:
                self.close()

    def _fetched(self, bucket: str, key: str | None, folder: Path) -> tuple[Path, str]:
        """Download an object as a file, or a dataset as a folder; return where it lies, and its address."""
        with self._connected() as store:
            bucket, name = _place(store, bucket, key)
            last = name.rstrip("/").rpartition("/")[2]
            path = folder / ("dataset" if last in ("", ".", "..") else last)
            try:
                if not name or name.endswith("/"):
                    raise ObjectMissing(f"there is no object {store.address(bucket, name)}")
                store.fetch(bucket, name, path)
            except ObjectMissing:
                path.unlink(missing_ok=True)
                if not Dataset(store, bucket, name).fetch(path):
                    raise
            return path, store.address(bucket, name)


def _policy(if_exists: str) -> Policy:
    if str(if_exists).lower() == IfExists.MERGE:
        raise ExportRefused("objects cannot be merged by keys; use if_exists='replace', 'append' or 'fail'")
    return Policy.of(if_exists)


def _place(store: Store, bucket: str, key: str | None) -> tuple[str, str]:
    if key is not None:
        return bucket, str(key)
    scheme, separator, rest = str(bucket).partition("://")
    if not separator or scheme != store.scheme:
        raise ConnectorError(
            f"load() needs bucket_name and object_key, or one address such as "
            f"{store.address('bucket', 'folder/trips.parquet')}; it got {bucket!r}"
        )
    name, _, path = rest.partition("/")
    return name, path
