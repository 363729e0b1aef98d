"""What callers may ask of replays."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.matching.replaying import Narrowed
from service.replays import MOST_EVENTS, Wish
from service.store.event_reading import EventFilters
from service.store.values import Outcome
from service.web.api.queries import Id, Name, UtcTime


class ReplayRequest(BaseModel):
    """How to do one event again."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Name | None = Field(None, description="Only for triggers of this pipeline.")
    trigger: Name | None = Field(None, description="Only for triggers of this name.")
    dry_run: bool = Field(False, description="Show what it would start, and write nothing.")

    def wish(self, event_id: str) -> Wish:
        return Wish((event_id,), only=Narrowed(self.pipeline, self.trigger))


class ReplaysRequest(ReplayRequest):
    """Which events to do again: named ones, or those that fit. All are recorded in one transaction."""

    event_ids: tuple[Id, ...] = Field((), max_length=MOST_EVENTS)
    project: Name | None = None
    outcome: Outcome | None = None
    source: Name | None = None
    since: UtcTime | None = Field(None, description="Received at this time or later.")
    until: UtcTime | None = Field(None, description="Received before this time.")
    limit: int = Field(100, ge=1, le=MOST_EVENTS, description="The first that fit, oldest first.")

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        filters = (self.pipeline, self.trigger, self.outcome, self.source, self.since, self.until)
        if not self.event_ids and all(one is None for one in filters):
            raise ValueError("say which events: give event_ids, or a filter such as since")
        return self

    def wishes(self) -> Wish:
        filters = EventFilters(
            self.project, self.pipeline, self.trigger, self.outcome, self.source, self.since, self.until
        )
        return Wish(self.event_ids, filters, Narrowed(self.pipeline, self.trigger), self.limit)
