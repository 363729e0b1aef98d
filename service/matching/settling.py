"""Batches: when the events that a trigger gathers are complete, and the event that they become. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.parse_fields import duration_seconds
from pipelines.parse_limits import USUAL_BATCH
from pipelines.templating import Expression
from sensors.event import Event
from service.matching.limiting import compiled, key_text

BATCH_SETTLED = "batch.settled"
ONLY_GROUP = "all"  # where the trigger names no group
QUIETS_TO_WAIT = 10  # the longest wait, where the trigger does not say: so many times `quiet`


@dataclass(frozen=True, slots=True)
class Settle:
    """How a trigger gathers events."""

    quiet: timedelta
    max_wait: timedelta
    group: Expression | None = None
    min_count: int = 1
    max_count: int = USUAL_BATCH

    def group_of(self, event: Mapping[str, Any]) -> str:
        """Return the group that an event, as templates see it, belongs to. Raises TemplateError."""
        return ONLY_GROUP if self.group is None else key_text(self.group, event)

    def complete_at(self, count: int, first: datetime, last: datetime) -> datetime:
        """Return when a group of `count` events is complete that came from `first` to `last`."""
        if count >= self.max_count:
            return last
        longest = first + self.max_wait
        return min(last + self.quiet, longest) if count >= self.min_count else longest


def read_settle(spec: Mapping[str, Any] | None) -> Settle | None:
    """Return what a trigger's `settle` says. Raises TemplateError."""
    if not spec:
        return None
    quiet = timedelta(seconds=duration_seconds(spec["quiet"]))
    longest = spec.get("max_wait")
    return Settle(
        quiet,
        QUIETS_TO_WAIT * quiet if longest is None else timedelta(seconds=duration_seconds(longest)),
        compiled(spec.get("group")),
        int(spec.get("min_count") or 1),
        int(spec.get("max_count") or USUAL_BATCH),
    )


def batch_source(pipeline: str, trigger: str) -> str:
    return f"settle:{pipeline}/{trigger}"


def batch_event(
    source: str,
    group: str,
    members: Sequence[tuple[str, Event]],
    now: datetime,
    *,
    arrived: Sequence[datetime],
) -> Event:
    """Return the event that a batch becomes, of its members and their ids, oldest first."""
    return Event(
        source=source,
        key=members[0][0],  # an event is in one batch of a trigger, so its first member names it
        type=BATCH_SETTLED,
        time=now,
        subject=group,
        data={
            "group": group,
            "count": len(members),
            "first_time": min(arrived),
            "last_time": max(arrived),
            "events": [event.as_template_value(event_id) for event_id, event in members],
        },
        hops=max(event.hops for _, event in members),
    )
