"""What a dataset in a bucket says of itself: which objects are its parts.

It is kept in `_common_metadata`, beside the schema of all parts, and replaced in one step: for who reads by
it, all parts of a write are there at once.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.io.objects.store import Stored

_KEY = b"millrace.manifest"
_OURS = re.compile(r"(?:^|/)data-[0-9a-f]{16}-[\d-]+\.parquet$")


@dataclass(frozen=True, slots=True)
class Written:
    """One write that is a part of the dataset."""

    id: str
    rows: int
    parts: tuple[str, ...]  # names below the dataset's folder


@dataclass(frozen=True, slots=True)
class Manifest:
    """All writes that make up the dataset, and what the first of them took the place of."""

    writes: tuple[Written, ...] = ()
    superseded: tuple[tuple[str, str], ...] = ()  # names and versions

    @classmethod
    def of(cls, schema: pa.Schema | None) -> Manifest:
        text = (schema.metadata or {}).get(_KEY) if schema is not None else None
        if text is None:
            return cls()
        said = json.loads(text)
        return cls(
            tuple(Written(each["id"], each["rows"], tuple(each["parts"])) for each in said["writes"]),
            tuple((name, version) for name, version in said["superseded"]),
        )

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(name for write in self.writes for name in write.parts)

    def rows_of(self, id: str) -> int | None:
        """Return the rows of that write, if it is a part of the dataset."""
        return next((write.rows for write in self.writes if write.id == id), None)

    def takes(self, name: str, seen: Stored) -> bool:
        """Tell whether an object below the folder belongs to the dataset.

        Those that other programs put there do, unless a write has taken their place.
        """
        if name in self.parts:
            return True
        return is_part(name) and not _OURS.search(name) and (name, seen.version) not in self.superseded

    def add_to(self, schema_file: Path) -> None:
        """Write this into the file of a schema."""
        schema = pq.read_schema(schema_file)
        said = {
            "writes": [{"id": each.id, "rows": each.rows, "parts": each.parts} for each in self.writes],
            "superseded": self.superseded,
        }
        pq.write_metadata(
            schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps(said).encode()}), schema_file
        )


def part_name(token: str) -> str:
    """Return how the parts of a write are called, with a place for their number."""
    return f"data-{token}-{{i}}.parquet"


def is_part_of(name: str, token: str) -> bool:
    """Tell whether an object is a part of that write, by whichever try."""
    return name.rpartition("/")[2].startswith(f"data-{token}-")


def is_part(name: str) -> bool:
    return name.endswith((".parquet", ".pq")) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Tell names that readers of datasets pass over."""
    return name.rpartition("/")[2].startswith(("_", "."))
