"""One object that is written whole, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.io.base import IfExists
from pipelines.io.errors import ExportRefused, TargetExists
from pipelines.io.objects.local import write_file
from pipelines.io.objects.store import ROWS, ObjectChanged, Store, Stored
from pipelines.io.objects.write import ObjectWrite


def export_object(
    store: Store,
    bucket: str,
    key: str,
    data: Any,
    format: str | None,
    policy: IfExists,
    write: ObjectWrite,
    options: Mapping[str, Any],
) -> int:
    """Write rows as an object and return how many; an object that this write has made stays as it is."""
    address = store.address(bucket, key)
    if policy is IfExists.APPEND:
        raise ExportRefused(
            f"cannot append to the object {address}: export a dataset with partition_cols, or replace it"
        )
    seen = store.head(bucket, key)
    if seen is not None and write.made(seen):
        rows = int(seen.metadata.get(ROWS, 0))
        write.found(rows)
        return rows
    if seen is not None and policy is IfExists.FAIL:
        raise _exists(address)
    with TemporaryDirectory(prefix="millrace-") as folder:
        path = Path(folder, key.rpartition("/")[2])
        rows = write_file(data, path, format, options)
        write.crash("effect.before_commit")
        _put(store, bucket, key, path, seen, policy, write, rows)
        write.crash("effect.after_commit")
    return rows


def _put(
    store: Store,
    bucket: str,
    key: str,
    path: Path,
    seen: Stored | None,
    policy: IfExists,
    write: ObjectWrite,
    rows: int,
) -> None:
    try:
        store.put(bucket, key, path, instead_of=seen, metadata=write.metadata(rows))
    except ObjectChanged:
        # The client tries again when an answer is lost: then the object that is in the way is our own.
        if write.made(store.head(bucket, key)):
            return
        if policy is IfExists.FAIL:
            raise _exists(store.address(bucket, key)) from None
        raise


def _exists(address: str) -> TargetExists:
    return TargetExists(f"{address} exists already, and the export says if_exists='fail'")
