"""The JSON shapes others rely on: runs, events, pipelines, triggers, lists and problems.

More keys may be added; the ones that are here stay (DESIGN 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from service.store.refused import NewRefusal
from service.store.values import (
    BlockState,
    Delivery,
    LogLine,
    Match,
    Outcome,
    Run,
    RunState,
    StoredEvent,
    Verdict,
)

Item = TypeVar("Item", bound=BaseModel)


def iso_time(moment: datetime) -> str:
    """Write an aware time as ISO 8601 in UTC with `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Moment = Annotated[
    datetime,
    PlainSerializer(iso_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2024-01-31T05:00:00Z"]}),
]


class Shape(BaseModel):
    """A JSON object that is built from a frozen value of ours."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class BlockRunJson(Shape):
    name: str
    type: str
    state: BlockState
    attempt: int = Field(description="Tries begun.")
    started_at: Moment | None
    finished_at: Moment | None
    rows: int | None = Field(description="Rows of the output, where it has rows.")
    error: str | None
    retry_at: Moment | None = Field(description="When the next try is due, while the block is waiting.")
    volatile: bool = Field(description="True when the output could not be stored: a resume runs it again.")
    reason: str | None = Field(description="Why it waits, or was skipped.")
    parent: str | None = Field(description="Of a child of a dynamic block: the block that it is one of.")
    item: int | None = Field(description="Of a child: the number of its item.")
    children: Mapping[str, int] = Field(description="Of a block that runs as children: how many, by state.")


class RunJson(Shape):
    id: str
    project: str
    pipeline: str
    state: RunState
    trigger: str | None = Field(description="The trigger that asked for the run; null when a person did.")
    event_id: str | None
    execution_date: Moment
    interval_start: Moment | None
    interval_end: Moment | None
    timezone: str
    variables: Mapping[str, Any]
    selection: tuple[str, ...] = Field(description="The only blocks to run; empty means all.")
    attempt: int = Field(description="Grows with each retry of the run.")
    created_at: Moment
    available_at: Moment | None = Field(description="When a waiting run goes on.")
    started_at: Moment | None
    finished_at: Moment | None
    cancel_requested: bool
    backfill_id: str | None = Field(description="The backfill that it belongs to.")
    parent_run_id: str | None = Field(description="The run whose block started it.")
    error: str | None
    waits_for: str | None = Field(description="Why it waits, while it does.")
    failed_blocks: int = Field(description="Blocks that failed; the run may have allowed that.")
    options: Mapping[str, Any] = Field(description="How its trigger has it run: allow_blocks_to_fail, ...")
    blocks: tuple[BlockRunJson, ...] = Field(
        description="In the order of the graph; empty until claimed. Lists of runs leave children out."
    )

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls.model_validate(run)


class MatchJson(Shape):
    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None
    run_id: str | None
    settle_group: str | None = Field(
        default=None, description="The group whose batch it waits for, or went into."
    )

    @classmethod
    def of(cls, match: Match) -> Self:
        return cls.model_validate(match)


class DeliveryJson(Shape):
    verdict: Verdict
    reason: str | None
    at: Moment
    road: str = Field(description="The door it came by.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        return cls.model_validate(delivery)


class EventJson(Shape):
    id: str
    project: str
    key: str = Field(description="Unique within its source; the judge of duplicates.")
    source: str
    type: str
    subject: str | None
    time: Moment = Field(description="When it happened.")
    received_at: Moment = Field(description="When it arrived here.")
    outcome: Outcome
    reason: str | None
    run_ids: tuple[str, ...]
    sightings: int = Field(description="How often it was reported to us, repeats included.")
    replay_of: str | None
    data: Any = Field(description="The payload; null once retention has removed it.")
    headers: Mapping[str, str] = Field(description="Lower-case names; secrets are redacted.")
    matches: tuple[MatchJson, ...]
    deliveries: tuple[DeliveryJson, ...] = Field(description="The newest ones; lists leave them out.")

    @classmethod
    def of(cls, event: StoredEvent, *, sightings: int | None = None) -> Self:
        """Build it; without `sightings` the deliveries at hand are counted."""
        if sightings is None:
            sightings = sum(delivery.verdict is not Verdict.REFUSED for delivery in event.deliveries)
        return cls(
            **{name: getattr(event, name) for name in _PLAIN_EVENT_FIELDS},
            sightings=max(sightings, 1),
            matches=tuple(MatchJson.of(match) for match in event.matches),
            deliveries=tuple(DeliveryJson.of(delivery) for delivery in event.deliveries),
        )


_PLAIN_EVENT_FIELDS = tuple(set(EventJson.model_fields) - {"sightings", "matches", "deliveries"})


class LogLineJson(Shape):
    seq: int = Field(description="Grows within a run; `next` of a page is the last one's.")
    at: Moment
    level: str
    text: str
    block: str | None
    attempt: int

    @classmethod
    def of(cls, line: LogLine) -> Self:
        return cls.model_validate(line)


class ListJson(BaseModel, Generic[Item]):
    """One page of a list. Ask for the next one with `?cursor=<next>`; null says that there is none."""

    items: list[Item]
    next: str | None


class RunListJson(ListJson[RunJson]):
    """Runs, newest first."""


class EventListJson(ListJson[EventJson]):
    """Events, newest first."""


class RefusalJson(Shape):
    id: int = Field(description="Grows; the cursor of paging.")
    at: Moment
    road: str = Field(description="The door or address that it was sent to.")
    reason: str
    remote: str
    project: str | None

    @classmethod
    def of(cls, number: int, refusal: NewRefusal) -> Self:
        return cls(id=number, **asdict(refusal))


class RefusalListJson(ListJson[RefusalJson]):
    """Deliveries that were refused, newest first."""


class LogLineListJson(ListJson[LogLineJson]):
    """Log lines of one run, oldest first."""


class FieldProblemJson(BaseModel):
    where: str = Field(description="The parameter or key, e.g. `query.limit` or `variables.month`.")
    message: str


class ProblemJson(BaseModel):
    """An error, as RFC 9457 (`application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldProblemJson] | None = None


class ForgottenJson(BaseModel):
    event_id: str
    run_ids: tuple[str, ...] = Field(description="They stay as facts, without variables, logs and outputs.")


def run_json(run: Run) -> dict[str, Any]:
    """Return the run as plain JSON values, as the API, `?wait=` and the command line print it."""
    return RunJson.of(run).model_dump(mode="json")


def event_json(event: StoredEvent) -> dict[str, Any]:
    """Return the event as plain JSON values."""
    return EventJson.of(event).model_dump(mode="json")
