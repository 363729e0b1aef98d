"""Datasets in buckets: folders of Parquet objects, partitioned as Hive does it (`day=2024-01-31/…`).

A write puts its parts beside those that are there, under names of its own, then replaces `_common_metadata`,
which lists the parts, and last removes the parts that it took the place of. Our own `load` goes by the list:
it sees the old rows or the new ones. Others, who go by the names, see both for a moment, never neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.io.base import IfExists
from pipelines.io.errors import ExportRefused, TargetExists, UnreadableFile
from pipelines.io.files.datasets import SCHEMA_FILE, rows_like, rows_of, write_parts
from pipelines.io.objects.local import writable
from pipelines.io.objects.manifest import Manifest, Written, is_hidden, is_part, is_part_of, part_name
from pipelines.io.objects.store import ObjectChanged, ObjectMissing, Store, Stored
from pipelines.io.objects.write import ObjectWrite

_NOT_IN_PATHS = frozenset({"", ".", ".."})  # whoever may write to the bucket chooses the names in it
_AT_ONCE = 8  # transfers
_TRIES = 8  # to read a dataset, or to append to it, while others write it


@dataclass(frozen=True, slots=True)
class _Known:
    """A dataset as it was at one moment."""

    manifest_object: Stored | None
    schema: pa.Schema | None
    manifest: Manifest
    objects: Mapping[str, Stored]  # by their names below the folder

    @property
    def parts(self) -> dict[str, Stored]:
        return {name: seen for name, seen in self.objects.items() if self.manifest.takes(name, seen)}

    @property
    def is_whole(self) -> bool:
        """Tell whether all parts were there; those of a manifest that was replaced meanwhile may be gone."""
        return self.manifest.parts <= self.objects.keys()


class Dataset:
    """A dataset below one key of a bucket."""

    def __init__(self, store: Store, bucket: str, key: str) -> None:
        self._store = store
        self._bucket = bucket
        self._folder = f"{key.strip('/')}/" if key.strip("/") else ""

    @property
    def address(self) -> str:
        return self._store.address(self._bucket, self._folder)

    def fetch(self, folder: Path) -> bool:
        """Write all parts below a folder and return True; False when there is no dataset."""
        for attempt in range(_TRIES):
            known = self._known()
            if not known.parts and not known.manifest.writes:
                return False
            with suppress(ObjectMissing):
                if known.is_whole or attempt == _TRIES - 1:
                    names = [*known.parts, *([SCHEMA_FILE] if known.manifest_object else [])]
                    self._for_each(names, lambda name: self._fetch(name, folder))
                    return True
        raise ObjectMissing(
            f"{self.address} was written anew again and again while it was read; try again later"
        )

    def export(
        self,
        data: Any,
        partition_cols: Sequence[str],
        policy: IfExists,
        write: ObjectWrite,
        options: Mapping[str, Any],
    ) -> int:
        """Write rows as a dataset, or add them to it, and return how many."""
        known = self._known()
        rows = known.manifest.rows_of(write.id)
        if rows is not None:
            write.found(rows)
            self._remove(known)
            return rows
        self._check(known, policy)
        with TemporaryDirectory(prefix="millrace-") as made, writable(self.address):
            folder = Path(made)
            given = rows_of(data)
            if policy is IfExists.APPEND:
                given = rows_like(given, known.schema, partition_cols, self.address)
            rows = write_parts(given, folder, partition_cols, part_name(write.token), options)
            written = Written(write.id, rows, tuple(_names_below(folder)))
            after = self._commit(folder, written, known, policy, write)
        self._remove(after)
        return written.rows

    def _check(self, known: _Known, policy: IfExists) -> None:
        if policy is IfExists.FAIL and (known.parts or known.manifest.writes):
            raise TargetExists(f"{self.address} exists already, and the export says if_exists='fail'")
        for name in known.objects:
            if policy is IfExists.REPLACE and not is_part(name) and not is_hidden(name):
                raise ExportRefused(
                    f"cannot replace {self.address} by a dataset: it holds {name}, which is no part of one. "
                    "Export to a folder of the dataset's own"
                )

    def _commit(
        self, folder: Path, written: Written, known: _Known, policy: IfExists, write: ObjectWrite
    ) -> _Known:
        """Upload the parts, then the manifest; when another append came first, once more."""
        for attempt in range(_TRIES):
            self._put_all(written.parts, folder, known.objects, write)
            manifest = _after(known, written, policy, write.token)
            manifest.add_to(folder / SCHEMA_FILE)
            write.crash("effect.before_commit")
            try:
                self._put(SCHEMA_FILE, folder, {SCHEMA_FILE: known.manifest_object}, write)
            except ObjectChanged:
                now = self._known()
                if now.manifest.rows_of(write.id) is None:
                    is_other = now.schema is None or now.schema != pq.read_schema(folder / SCHEMA_FILE)
                    if policy is not IfExists.APPEND or is_other or attempt == _TRIES - 1:
                        raise
                    known = now
                    continue
            write.crash("effect.after_commit")
            return replace(known, manifest=manifest)
        raise AssertionError("the last try returns or raises")

    def _remove(self, known: _Known) -> None:
        """Delete what the dataset has left behind: parts it took the place of, and those of dead tries."""
        gone = dict(known.manifest.superseded)
        left = [
            seen for name, seen in known.objects.items() if gone.get(name) == seen.version and is_part(name)
        ]
        self._for_each(left, lambda seen: self._store.delete(self._bucket, seen))

    def _known(self) -> _Known:
        # The manifest first: parts that it lists are there before it is.
        with TemporaryDirectory(prefix="millrace-") as folder:
            path = Path(folder, SCHEMA_FILE)
            manifest_object = self._store.head(self._bucket, self._folder + SCHEMA_FILE)
            if manifest_object is not None:
                self._store.fetch(self._bucket, manifest_object.name, path)
            schema = pq.read_schema(path) if manifest_object is not None else None
        objects = {
            seen.name.removeprefix(self._folder): seen
            for seen in self._store.listed(self._bucket, self._folder)
            if not seen.is_marker
        }
        return _Known(manifest_object, schema, Manifest.of(schema), objects)

    def _fetch(self, name: str, folder: Path) -> None:
        path = folder / name
        if not _NOT_IN_PATHS.isdisjoint(name.split("/")) or not path.is_relative_to(folder):
            raise UnreadableFile(
                f"{self.address} cannot be read: the name of its object {name!r} leads out of the dataset's "
                f"folder, or has an empty part; rename or delete that object"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._store.fetch(self._bucket, self._folder + name, path)

    def _put_all(
        self, names: Iterable[str], folder: Path, seen: Mapping[str, Stored | None], write: ObjectWrite
    ) -> None:
        def put(name: str) -> None:
            self._put(name, folder, seen, write)
            write.crash("effect.part")

        self._for_each(names, put)

    def _put(self, name: str, folder: Path, seen: Mapping[str, Stored | None], write: ObjectWrite) -> None:
        self._store.put(
            self._bucket,
            self._folder + name,
            folder / name,
            instead_of=seen.get(name),
            metadata=write.metadata(0),
        )

    @staticmethod
    def _for_each(items: Iterable[Any], do: Callable[[Any], None]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(do, items):
                pass


def _after(known: _Known, written: Written, policy: IfExists, token: str) -> Manifest:
    """Return the manifest that the write leaves."""
    others = {name: seen.version for name, seen in known.objects.items() if name not in written.parts}
    if policy is IfExists.APPEND:
        dead = {name: version for name, version in others.items() if is_part_of(name, token)}
        return Manifest((*known.manifest.writes, written), (*known.manifest.superseded, *dead.items()))
    parts = {name: version for name, version in others.items() if is_part(name)}
    return Manifest((written,), tuple(parts.items()))


def _names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet") if path.is_file())
