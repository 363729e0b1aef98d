"""The `gcs_object` sensor: objects in a Cloud Storage bucket."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from sensors.base import PAGE_SIZE, Cursor, Options, Page, Sensor, SensorError, TickContext
from sensors.event import Event
from sensors.files import glob_pattern
from sensors.gcs_cursor import MAX_PRESENT, Memory, chunks_of
from sensors.gcs_news import TYPES, Kind, is_directory_marker, object_event
from sensors.google import TIMEOUT, GoogleOptions, briefly, client_options, credentials_of, told_plainly

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

LISTED_AT_ONCE = 1_000  # the most that Cloud Storage gives in one answer
FIELDS = (
    "items(name,generation,metageneration,size,contentType,md5Hash,crc32c,timeCreated,updated,metadata),"
    "nextPageToken"
)


class GcsOptions(GoogleOptions):
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="the bucket's name, without gs://")
    prefix: str = Field(
        default="", description="how the names begin, such as yellow/; all others are not listed"
    )
    pattern: str = Field(
        default="*",
        min_length=1,
        description="glob over the file name, or over the whole name where it has a slash: "
        "* stays within one folder, ** crosses folders",
    )
    min_size: int = Field(default=0, ge=0, description="bytes; smaller objects are left alone")
    done_marker: str | None = Field(
        default=None,
        pattern="^[^/]+$",
        description="file name, or glob over it, of the objects that say that a folder is complete, such as "
        "_SUCCESS: only they are events, of any size, and event.data.folder names the folder",
    )
    deletes: bool = Field(
        default=False,
        description=f"deletions are events too; a listing finds them among up to {MAX_PRESENT:,} objects",
    )
    notifications: Literal["none", "expected"] = Field(
        default="none",
        description="expected: news comes by Pub/Sub or Eventarc, and listing only finds what they missed",
    )

    @field_validator("pattern", "done_marker")
    @classmethod
    def _is_a_glob(cls, value: str | None) -> str | None:
        try:
            glob_pattern(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no pattern: {error}") from None
        return value

    @model_validator(mode="after")
    def _names_its_objects_once(self) -> GcsOptions:
        if self.done_marker is not None and {"pattern", "min_size"} & self.model_fields_set:
            raise ValueError("done_marker takes the place of pattern and min_size; leave them out")
        return self


class GcsObjectSensor(Sensor[GcsOptions]):
    """Reports every generation of every object that fits, whatever its time stamp says.

    Each tick lists the whole prefix, since no time stamp tells when an object could first be seen; chunks of
    the listing that have not changed are not reported again.
    """

    name: ClassVar[str] = "gcs_object"
    options_model: ClassVar[type[Options]] = GcsOptions
    apart: ClassVar[bool] = True

    def __init__(self, options: GcsOptions) -> None:
        super().__init__(options)
        self._pattern = options.done_marker or options.pattern
        self._glob = glob_pattern(self._pattern)

    @property
    def reconciles(self) -> bool:
        """Tell whether other roads bring the news, so that what a listing finds first is what they missed."""
        return self.options.notifications == "expected"

    def covers(self, event: Event) -> bool:
        bucket = self.options.bucket
        if event.source != f"gcs:{bucket}" or not event.key.startswith(f"gcs:{bucket}/"):
            return False
        name, size = str(event.subject), event.data["size"]
        if not self._fits_name(name) or is_directory_marker(event):
            return False
        if event.type == TYPES[Kind.FINALIZE]:
            return size is not None and size >= self.options.min_size
        is_gone = event.type == TYPES[Kind.DELETE] and event.data["overwritten_by_generation"] is None
        return self.options.deletes and is_gone and (size is None or size >= self.options.min_size)

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        memory = Memory.parse(cursor, context.now)
        with self._told_plainly():
            client = self._client(context)
        with closing(client):
            listing = _Listing(self._listed(client, context), self._fits, missing=dict(memory.present))
            yield from self._pages(cursor, memory, listing, context)
        if self.options.deletes and not self.reconciles and len(listing.present) > MAX_PRESENT:
            raise SensorError(
                f"{self._where} has more than {MAX_PRESENT:,} objects that fit, and a listing finds no "
                "deletions among more; narrow the prefix, leave out deletes, or set up notifications and say "
                "notifications: expected"
            )

    def _pages(
        self, cursor: Cursor, memory: Memory, listing: _Listing, context: TickContext
    ) -> Iterator[Page]:
        """Hand over the chunks that changed, and what is gone."""
        outbox = _Outbox(memory)
        for chunk in chunks_of(self.options.bucket, listing):
            if chunk.digest not in memory.chunks:
                yield from outbox.put(self._found(blob, memory, context) for blob in chunk.objects)
            outbox.done.append(chunk.digest)
        if self.options.deletes:
            yield from outbox.put((event, False) for event in self._gone(listing.missing, context))
        yield from outbox.rest(cursor, Memory(frozenset(outbox.done), present=self._remembered(listing)))

    def _found(self, blob: Blob, memory: Memory, context: TickContext) -> tuple[Event, bool]:
        event = object_event(_resource(blob, self.options.bucket), Kind.FINALIZE)
        was_there = memory.first_sight is not None and event.time < memory.first_sight
        return event, was_there and context.existing.makes_baseline(event.time)

    def _gone(self, missing: Mapping[str, int], context: TickContext) -> Iterator[Event]:
        """Make events of the names that a former listing had and this one has not."""
        for name, generation in missing.items():
            if self._fits_name(name):  # by the options of today
                resource = {"bucket": self.options.bucket, "name": name, "generation": generation}
                yield object_event(resource, Kind.DELETE, at=context.now.isoformat())

    def _remembered(self, listing: _Listing) -> Mapping[str, int]:
        if not self.options.deletes or len(listing.present) > MAX_PRESENT:
            return {}
        return listing.present

    def _fits(self, blob: Blob) -> bool:
        if blob.name.endswith("/") and not blob.size:
            return False  # stands for a folder
        return self._fits_name(blob.name) and (blob.size or 0) >= self.options.min_size

    def _fits_name(self, name: str) -> bool:
        if not name.startswith(self.options.prefix):
            return False
        is_whole = "/" in self._pattern
        return self._glob.fullmatch(name if is_whole else name.rpartition("/")[2]) is not None

    def _listed(self, client: Client, context: TickContext) -> Iterator[Blob]:
        with self._told_plainly():
            answers = client.list_blobs(
                self.options.bucket,
                prefix=self.options.prefix or None,
                page_size=LISTED_AT_ONCE,
                fields=FIELDS,
                timeout=TIMEOUT,
                retry=briefly(),
            )
            for answer in answers.pages:
                if context.is_stopping():
                    raise SensorError("the engine is stopping; the tick goes on after the next start")
                yield from answer

    def _client(self, context: TickContext) -> Client:
        from google.cloud.storage import Client

        return Client(
            project=None,
            credentials=credentials_of(self.options, context),
            client_options=client_options(self.options),
        )

    @property
    def _where(self) -> str:
        return f"gs://{self.options.bucket}/{self.options.prefix}"

    def _told_plainly(self) -> AbstractContextManager[None]:
        return told_plainly(
            f"the bucket {self.options.bucket}",
            missing="mend 'bucket' in the trigger's options, or create it with "
            f"`gcloud storage buckets create gs://{self.options.bucket}`",
            forbidden="grant roles/storage.objectViewer on it to the service account of the tick",
        )


@dataclass(slots=True)
class _Listing:
    """The objects of a listing that fit; once it is read, also what of a former one is missing in it."""

    blobs: Iterator[Blob]
    fits: Callable[[Blob], bool]
    missing: dict[str, int]  # generations by name
    present: dict[str, int] = field(default_factory=dict)  # one more than MAX_PRESENT at most

    def __iter__(self) -> Iterator[Blob]:
        for blob in self.blobs:
            self.missing.pop(blob.name, None)  # what no longer fits is not gone
            if self.fits(blob):
                if len(self.present) <= MAX_PRESENT:
                    self.present[blob.name] = blob.generation
                yield blob


@dataclass(slots=True)
class _Outbox:
    """Cuts what was found into pages. Their cursors name the chunks that are handed over to their end."""

    memory: Memory
    cursor: str = field(init=False)  # of the page before
    done: list[str] = field(default_factory=list)  # digests of chunks, all of whose objects were put
    waiting: list[tuple[Event, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cursor = self.memory.text()

    def put(self, found: Iterable[tuple[Event, bool]]) -> Iterator[Page]:
        self.waiting += found
        while (
            len(self.waiting) > PAGE_SIZE
        ):  # less than a page stays, so that done chunks end in the next one
            yield self._page(self.memory.with_chunks(self.done))
            del self.waiting[:PAGE_SIZE]

    def rest(self, cursor: Cursor, final: Memory) -> Iterator[Page]:
        """Yield the last page; none when there is nothing to say."""
        if self.waiting or final.text() != cursor:
            yield self._page(final)

    def _page(self, memory: Memory) -> Page:
        found = self.waiting[:PAGE_SIZE]
        before, self.cursor = self.cursor, memory.text()
        return Page(
            events=tuple(event for event, is_baseline in found if not is_baseline),
            cursor=self.cursor,
            baseline=tuple(event for event, is_baseline in found if is_baseline),
            partly=before,
        )


def _resource(blob: Blob, bucket: str) -> Mapping[str, Any]:
    return {
        "bucket": bucket,
        "name": blob.name,
        "generation": blob.generation,
        "metageneration": blob.metageneration,
        "size": blob.size,
        "contentType": blob.content_type,
        "md5Hash": blob.md5_hash,
        "crc32c": blob.crc32c,
        "timeCreated": blob.time_created and blob.time_created.isoformat(),
        "updated": blob.updated and blob.updated.isoformat(),
        "metadata": blob.metadata,
    }
