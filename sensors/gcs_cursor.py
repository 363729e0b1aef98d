"""What a `gcs_object` trigger remembers of a listing: little, however many objects there are.

The listing comes in the order of names. It is cut into chunks where a hash of a name says so, about every 512
names, so that a new object changes the chunk that it falls into and no other. The cursor holds one hash of
names and generations for each chunk: a chunk whose hash it knows is certainly unchanged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from sensors.base import Cursor

CHUNK_OBJECTS = 512  # on average
MAX_CHUNK_OBJECTS = 8 * CHUNK_OBJECTS  # what one chunk may hold in memory
DIGEST_BYTES = 12
DIGEST_CHARACTERS = DIGEST_BYTES * 4 // 3
MAX_PRESENT = 1_000  # names that a cursor may hold, for those triggers that watch for deletions


class Named(Protocol):
    """An object, as a listing has it."""

    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...


T = TypeVar("T", bound=Named)


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """Objects that follow each other in a listing."""

    objects: tuple[T, ...]
    digest: str


def chunks_of(bucket: str, objects: Iterable[T]) -> Iterator[Chunk[T]]:
    """Cut a listing in the order of names into chunks."""
    gathered: list[T] = []
    for item in objects:
        gathered.append(item)
        if zlib.crc32(item.name.encode()) % CHUNK_OBJECTS == 0 or len(gathered) == MAX_CHUNK_OBJECTS:
            yield _chunk(bucket, gathered)
            gathered = []
    if gathered:
        yield _chunk(bucket, gathered)


def _chunk(bucket: str, objects: list[T]) -> Chunk[T]:
    digest = hashlib.blake2b(bucket.encode(), digest_size=DIGEST_BYTES)
    for item in objects:
        digest.update(f"\0{item.name}\0{item.generation}".encode())
    return Chunk(tuple(objects), base64.b64encode(digest.digest()).decode())


@dataclass(frozen=True, slots=True)
class Memory:
    """The cursor. `first_sight` stands while the first listing is not yet committed to its end: what came
    later than that, between a crash and the repeat, is not baseline.
    """

    chunks: frozenset[str] = frozenset()  # digests of those that were handed over to the end
    first_sight: datetime | None = None
    present: Mapping[str, int] = field(default_factory=dict)  # generations by name

    @classmethod
    def parse(cls, cursor: Cursor, now: datetime) -> Memory:
        if cursor is None:
            return cls(first_sight=now)
        stored = json.loads(cursor)
        digests, since = stored["chunks"], stored.get("first_sight")
        return cls(
            chunks=frozenset(
                digests[at : at + DIGEST_CHARACTERS] for at in range(0, len(digests), DIGEST_CHARACTERS)
            ),
            first_sight=None if since is None else datetime.fromisoformat(since),
            present=_unpacked(stored["present"]) if "present" in stored else {},
        )

    def with_chunks(self, digests: Iterable[str]) -> Memory:
        return replace(self, chunks=self.chunks.union(digests))

    def text(self) -> str:
        stored = {"chunks": "".join(sorted(self.chunks))}
        if self.first_sight is not None:
            stored["first_sight"] = self.first_sight.isoformat()
        if self.present:
            stored["present"] = _packed(self.present)
        return json.dumps(stored)


def _packed(present: Mapping[str, int]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(present, sort_keys=True).encode(), 9)).decode()


def _unpacked(text: str) -> Mapping[str, int]:
    present: Mapping[str, int] = json.loads(zlib.decompress(base64.b64decode(text)))
    return present
