"""Backfills as JSON: their previews, how far they have come, and their slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field

from service.backfills.judging import Status
from service.backfills.preview import Entry, Preview
from service.backfills.request import Dates
from service.store import backfills
from service.store.backfill_slots import StoredSlot
from service.store.backfills import Backfill, BackfillState
from service.store.session import Connection
from service.web.schemas import ListJson, Moment, Shape


class EntryJson(Shape):
    position: int = Field(description="Its place in the order of processing.")
    start: Moment | None
    end: Moment | None = Field(description="Not included in the slot.")
    event_id: str | None = Field(description="Of a backfill over events: the one that is done again.")
    status: Status = Field(description="What is there of it now.")
    runs: bool = Field(description="What will happen: true runs it, false skips it.")
    reason: str
    chunk: int = Field(description="Slots of one chunk share a run; 0 has none.")

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls.model_validate(entry)


class PreviewJson(BaseModel):
    """What a backfill would do, slot by slot."""

    token: str = Field(description="Send it with the backfill: it is refused when the list has changed.")
    runs: int = Field(description="How many runs there will be.")
    counts: Mapping[str, int] = Field(description="Slots by status, and how many run and are skipped.")
    end_included: bool = Field(description="Over dates: a slot that begins at the end belongs to the range.")
    items: list[EntryJson]

    @classmethod
    def of(cls, preview: Preview) -> Self:
        return cls(
            token=preview.token,
            runs=preview.runs,
            counts=preview.counts,
            end_included=isinstance(preview.request.over, Dates),
            items=[EntryJson.of(entry) for entry in preview.entries],
        )


class BackfillJson(Shape):
    id: str
    project: str
    pipeline: str
    trigger: str | None
    state: BackfillState
    reason: str | None
    spec: Mapping[str, Any] = Field(description="What was asked for.")
    concurrency: int
    stop_after: int | None = Field(description="The number of failures at which it stops.")
    created_at: Moment
    finished_at: Moment | None
    counts: Mapping[str, int] = Field(description="Slots by the state of their run, or their own.")

    @classmethod
    def of(cls, backfill: Backfill, counts: Mapping[str, int]) -> Self:
        return cls(
            project=backfill.place.project,
            pipeline=backfill.place.pipeline,
            trigger=backfill.place.trigger,
            counts=counts,
            **{name: getattr(backfill, name) for name in _PLAIN_FIELDS},
        )

    @classmethod
    def read(cls, connection: Connection, found: list[Backfill]) -> list[Self]:
        """Return backfills with the counts of their slots."""
        counts = backfills.counts(connection, [one.id for one in found])
        return [cls.of(one, counts[one.id]) for one in found]


_PLAIN_FIELDS = tuple(set(BackfillJson.model_fields) - {"project", "pipeline", "trigger", "counts"})


class BackfillListJson(ListJson[BackfillJson]):
    """Backfills, newest first."""


class SlotJson(Shape):
    position: int
    start: Moment | None
    end: Moment | None
    event_id: str | None
    chunk: int
    state: str = Field(description="Of its run; pending, skipped, failed or cancelled where it has none.")
    reason: str | None = Field(description="Why it was run or skipped.")
    run_id: str | None
    started_at: Moment | None
    finished_at: Moment | None
    error: str | None

    @classmethod
    def of(cls, slot: StoredSlot) -> Self:
        return cls.model_validate(slot)


class SlotListJson(ListJson[SlotJson]):
    """Slots of one backfill, in the order of processing."""
