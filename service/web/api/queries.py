"""What callers may ask: filters, pages and request bodies, checked by pydantic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from service.matching.releasing import Held
from service.store.ids import ID_PATTERN
from service.store.values import Outcome, RunState

MAX_PAGE = 200
MAX_LOG_PAGE = 5000


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# Control characters are in no name of ours, and Postgres refuses NUL in a text.
Name = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
UtcTime = Annotated[datetime, AfterValidator(_in_utc)]


class Query(BaseModel):
    """Parameters are checked strictly: a misspelt filter must not silently answer with everything."""

    model_config = ConfigDict(extra="forbid")


class ProjectQuery(Query):
    project: Name | None = Field(None, description="Name of a project; the default project when absent.")


class ResumeQuery(ProjectQuery):
    held: Held = Field(
        Held.RUN,
        description="What becomes of held events: all `run`, the `latest` of each key does, or `drop` all.",
    )


class PipelineFilter(Query):
    project: Name | None = Field(None, description="Only of this project; all projects when absent.")


class TriggerFilter(PipelineFilter):
    pipeline: Name | None = Field(None, description="Only of this pipeline.")


class Page(Query):
    cursor: Id | None = Field(None, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Items on a page.")


class RunFilter(Page):
    project: Name | None = None
    pipeline: Name | None = None
    trigger: Name | None = None
    state: list[RunState] = Field([], description="One or more states: `?state=failed&state=cancelled`.")
    event_id: Id | None = Field(None, description="Only runs that this event started.")
    parent_run_id: Id | None = Field(None, description="Only runs that blocks of this run started.")
    since: UtcTime | None = Field(None, description="Created at this time or later.")
    until: UtcTime | None = Field(None, description="Created before this time.")


class EventFilter(Page):
    project: Name | None = None
    pipeline: Name | None = None
    trigger: Name | None = None
    outcome: Outcome | None = None
    source: Name | None = None
    since: UtcTime | None = Field(None, description="Received at this time or later.")
    until: UtcTime | None = Field(None, description="Received before this time.")


class RefusalFilter(Query):
    cursor: int | None = Field(None, ge=0, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Items on a page.")


class LogFilter(Query):
    block: Name | None = None
    level: str | None = Field(
        None, pattern="^(debug|info|warning|error)$", description="This level and the more severe ones."
    )
    contains: Name | None = Field(None, description="Text that a line must contain, in any case.")
    cursor: int = Field(0, ge=0, description="`next` of the page before.")
    limit: int = Field(500, ge=1, le=MAX_LOG_PAGE, description="Lines on a page.")


class RunRequest(BaseModel):
    """A run to be started by hand."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Name
    project: Name | None = Field(None, description="The default project when absent.")
    variables: dict[str, Any] = Field(default_factory=dict, description="Checked against the inputs.")
    execution_date: UtcTime | None = Field(None, description="Now when absent.")
    blocks: tuple[Name, ...] = Field((), description="The only blocks to run; empty means all.")


class RunHeaders(BaseModel):
    """Headers that matter when a run is started."""

    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        None,
        alias="Idempotency-Key",
        description="The same key gives the same run, however often it is sent.",
    )
