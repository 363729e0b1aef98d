"""Temporary files behind a reader of batches, which nobody closes."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa

from pipelines.io.objects.local import readable


class LastingFolder:
    """A temporary folder that is removed when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="millrace-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def lasting(reader: pa.RecordBatchReader, folder: LastingFolder, address: str) -> pa.RecordBatchReader:
    """Return the reader, which holds its files' folder; an error names the address that they came from."""

    def batches(_held: LastingFolder) -> Iterator[pa.RecordBatch]:
        with readable(address):
            yield from reader

    return pa.RecordBatchReader.from_batches(reader.schema, batches(folder))
