"""What a store of objects must do for us, in words that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.io.errors import ExportRefused, UnreadableFile

# Under these names an object says which write made it, and how many rows it holds.
EFFECT, ROWS = "millrace-effect", "millrace-rows"


class ObjectMissing(UnreadableFile):
    """There is no such object, or no such bucket."""


class ObjectChanged(ExportRefused):
    """Somebody else wrote the object between our look at it and our write. Nothing of ours was written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, as it was at one moment."""

    name: str
    size: int  # bytes
    version: str  # changes with every write: a generation, or an entity tag
    metadata: Mapping[str, str] = field(default_factory=dict)  # filled in by `head`, not by `listed`

    @property
    def is_marker(self) -> bool:
        """Tell the empty objects that pyarrow and others make where a folder would be."""
        return self.size == 0 and self.name.endswith("/")


class Store(ABC):
    """Objects in buckets. Errors of the SDK are raised as ours."""

    scheme: str  # of addresses: gs, s3

    @abstractmethod
    def head(self, bucket: str, name: str) -> Stored | None:
        """Look at an object; None when there is none. ObjectMissing when there is no bucket."""

    @abstractmethod
    def listed(self, bucket: str, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose names begin with the prefix, in the order of their names."""

    @abstractmethod
    def fetch(self, bucket: str, name: str, path: Path) -> None:
        """Write an object's bytes, checked against its checksum, to a file. Raises ObjectMissing."""

    @abstractmethod
    def put(
        self, bucket: str, name: str, path: Path, *, instead_of: Stored | None, metadata: Mapping[str, str]
    ) -> None:
        """Make the file's bytes the object, in the place of the one that was seen, or where none was.

        ObjectChanged when something else is there by now. Large files go in parts; the object appears whole.
        """

    @abstractmethod
    def delete(self, bucket: str, seen: Stored) -> None:
        """Delete an object unless it changed since it was seen; harmless when it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections."""

    def address(self, bucket: str, name: str) -> str:
        return f"{self.scheme}://{bucket}/{name}"
