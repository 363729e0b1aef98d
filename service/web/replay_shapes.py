"""Replays as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field

from service.replays import Replay
from service.store.values import Outcome
from service.web.schemas import ListJson, Shape


class ChangeJson(Shape):
    name: str
    before: Any
    now: Any
    was_there: bool = Field(description="False when the variable is new.")
    is_there: bool = Field(description="False when the variable is gone.")


class StartJson(Shape):
    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None
    run_id: str | None = Field(description="Null when nothing was started, or only shown.")
    variables: Mapping[str, Any] | None = Field(description="Of the run that it starts.")
    changes: tuple[ChangeJson, ...] = Field(description="How the variables differ from last time.")
    has_last_time: bool = Field(description="False when the first event had no run to compare with.")


class ReplayJson(Shape):
    event_id: str = Field(description="The event that is done again.")
    replay_id: str | None = Field(description="The new event; null when it is only shown.")
    outcome: Outcome | None
    starts: tuple[StartJson, ...]
    error: str | None = Field(description="Why this event cannot be done again.")

    @classmethod
    def of(cls, replay: Replay) -> Self:
        return cls.model_validate(replay)


class ReplayListJson(ListJson[ReplayJson]):
    """Replays, in the order of the events they repeat."""
