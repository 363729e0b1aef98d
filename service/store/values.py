"""What the store hands out and takes in: frozen values and documented states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class RunState(StrEnum):
    QUEUED = "queued"  # to be claimed by an engine
    RUNNING = "running"  # claimed; a lease shows that it lives
    WAITING = "waiting"  # parked until `available_at`; occupies no worker
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


OPEN_STATES = tuple(state for state in RunState if not state.is_final)


class BlockState(StrEnum):
    QUEUED = "queued"  # its inputs are not there yet, or it was interrupted
    RUNNING = "running"
    WAITING = "waiting"  # a retry is due at `retry_at`
    SUCCEEDED = "succeeded"  # checkpoint durable and this row committed
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # a condition was false, or its input was skipped
    UPSTREAM_FAILED = "upstream_failed"


class Verdict(StrEnum):
    """What became of one arrival at a door."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Outcome(StrEnum):
    """What became of an event, for one trigger or as a whole."""

    RAN = "ran"
    BATCHED = "batched"
    HELD = "held"  # open: paused or settling
    SKIPPED = "skipped"  # a limit
    MAPPING_FAILED = "mapping_failed"
    FILTERED = "filtered"
    UNMATCHED = "unmatched"  # nobody takes it
    QUARANTINED = "quarantined"  # authentic, but unreadable
    BASELINE = "baseline"  # was there at first sight


# The event's own outcome is the first of these among its matches (DESIGN 7).
OUTCOME_ORDER = (
    Outcome.RAN,
    Outcome.BATCHED,
    Outcome.HELD,
    Outcome.SKIPPED,
    Outcome.MAPPING_FAILED,
    Outcome.FILTERED,
    Outcome.BASELINE,
)


REPLAY_MARK = "#replay:"  # in the key of a replay, between the key of the first event and a fresh end


class WhenFull(StrEnum):
    """What becomes of an event whose trigger has no room for another run."""

    QUEUE = "queue"  # its run waits
    SKIP = "skip"  # it starts none
    CANCEL_RUNNING = "cancel_running"  # the runs that hold the limit are cancelled for it


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `maximum` runs that carry `key` run at once."""

    key: str
    maximum: int
    when_full: WhenFull = WhenFull.QUEUE


@dataclass(frozen=True, slots=True)
class Throttle:
    """At most `maximum` runs that carry `key` begin in each window of `seconds`, counted from the epoch."""

    key: str
    maximum: int
    seconds: float
    when_full: WhenFull = WhenFull.QUEUE


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be enqueued. `variables` are the trigger's and the caller's, without the pipeline's own."""

    id: str
    project: str
    pipeline: str
    execution_date: datetime
    variables: Mapping[str, Any] = field(default_factory=dict)
    trigger: str | None = None
    event_id: str | None = None
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    selection: tuple[str, ...] = ()  # names of the only blocks to run; empty means all
    priority: int = 0  # higher first
    limits: tuple[Limit, ...] = ()
    throttles: tuple[Throttle, ...] = ()
    available_at: datetime | None = None  # not to be claimed before
    timezone: str = "UTC"
    hops: int = 0  # runs that led to this one, one after the other
    backfill_id: str | None = None
    options: Mapping[str, Any] = field(
        default_factory=dict
    )  # plain: fields of `pipelines.runspec.RunOptions`
    parent_run_id: str | None = None  # the run whose block started it


@dataclass(frozen=True, slots=True)
class NewMatch:
    """What one trigger made of an event."""

    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None = None
    run: NewRun | None = None
    settle_group: str | None = None  # held until the batch of this group is complete


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event, decided upon: to be recorded with its matches and runs in one transaction."""

    id: str
    project: str
    source: str
    key: str
    type: str
    time: datetime
    received_at: datetime
    outcome: Outcome
    subject: str | None = None
    reason: str | None = None
    data: str | None = None  # JSON text
    raw: bytes | None = None  # only when it differs from what `data` can give back
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    replay_of: str | None = None
    matches: tuple[NewMatch, ...] = ()
    road: str = ""  # the door it came by, for the delivery's row: "webhook:taxi/from_api"
    shared: bool = False  # a repeat may bring matches that the first report did not have
    hops: int = 0
    payload_until: datetime | None = None  # None: the service's retention counts
    keep_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to one delivery: ids of the event and its runs, the original's for a duplicate."""

    event_id: str
    outcome: Outcome
    run_ids: tuple[str, ...]
    duplicate: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BlockRun:
    name: str
    type: str
    state: BlockState
    attempt: int = 0  # tries begun
    deaths: int = 0  # how often the worker process died under it
    started_at: datetime | None = None
    finished_at: datetime | None = None
    rows: int | None = None
    error: str | None = None
    retry_at: datetime | None = None
    checkpoint: Mapping[str, Any] | None = None  # what `pipelines.checkpoints` needs to load it again
    volatile: bool = False  # finished, but not stored: a resume runs it again
    parent: str | None = None  # of a dynamic child: the block that it is one of
    item: int | None = None  # of a dynamic child: its number among them
    reason: str | None = None  # why it waits, or was skipped
    first_started_at: datetime | None = None  # over all tries and looks
    killed: bool = False  # it failed by being ended from outside; its callbacks have not heard of it
    children: Mapping[str, int] = field(default_factory=dict)  # of a controller: how many in each state


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    project: str
    pipeline: str
    state: RunState
    execution_date: datetime
    created_at: datetime
    variables: Mapping[str, Any]
    trigger: str | None = None
    event_id: str | None = None
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    timezone: str = "UTC"
    selection: tuple[str, ...] = ()
    attempt: int = 1
    claim: int = 0
    pin: str | None = None
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    error: str | None = None
    hops: int = 0
    backfill_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    parent_run_id: str | None = None
    blocked_by: str | None = None  # the limit that holds it, while it waits
    blocks: tuple[BlockRun, ...] = ()

    @property
    def failed_blocks(self) -> int:
        """How many blocks failed; a run that allows that has succeeded all the same."""
        return sum(block.state is BlockState.FAILED and block.parent is None for block in self.blocks)

    @property
    def waits_for(self) -> str | None:
        """Why it waits, in a sentence."""
        if self.state is not RunState.WAITING:
            return None
        if self.blocked_by is not None:
            return f"the limit '{self.blocked_by}' is full"
        parked = [block for block in self.blocks if block.state is BlockState.WAITING]
        if not parked:
            return None
        first = min(parked, key=lambda block: (block.retry_at is None, block.retry_at))
        more = f" (and {len(parked) - 1} more)" if len(parked) > 1 else ""
        reason = first.reason or f"block '{first.name}' is tried again after: {first.error}"
        return f"{reason}{more}"


@dataclass(frozen=True, slots=True)
class Pin:
    """A pipeline as it was at its run's first claim: path relative to the project -> source text."""

    hash: str
    sources: Mapping[str, str]
    blocks: tuple[tuple[str, str], ...]  # (name, type) in topological order


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run this engine may execute until its lease lapses. All writes must name `run.claim`."""

    run: Run
    pin: Pin
    event: Mapping[str, Any] | None  # as `sensors.event.Event.as_template_value`, times as ISO text


@dataclass(frozen=True, slots=True)
class Match:
    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None
    run_id: str | None
    settle_group: str | None = None  # whose batch it waits for, or went into


@dataclass(frozen=True, slots=True)
class Delivery:
    verdict: Verdict
    reason: str | None
    at: datetime
    road: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    id: str
    project: str
    source: str
    key: str
    type: str
    subject: str | None
    time: datetime
    received_at: datetime
    outcome: Outcome
    reason: str | None
    replay_of: str | None
    data: Any
    headers: Mapping[str, str]
    hops: int = 0
    run_ids: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()
    deliveries: tuple[Delivery, ...] = ()

    @property
    def original_key(self) -> str:
        """The key as templates and blocks see it: a replay has that of the event it repeats."""
        return original_key(self.key, self.replay_of)


@dataclass(frozen=True, slots=True)
class LogLine:
    seq: int  # grows within a run; the cursor of paging
    at: datetime
    level: str  # "debug" | "info" | "warning" | "error"
    text: str
    block: str | None = None
    attempt: int = 1


def original_key(key: str, replay_of: str | None) -> str:
    return key if replay_of is None else key.rpartition(REPLAY_MARK)[0]


# What an engine reports of a claimed run. Each is applied only while `claim` still holds.


@dataclass(frozen=True, slots=True)
class BlockStarted:
    run_id: str
    claim: int
    block: str
    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class BlockEnded:
    """A block reached `state`; QUEUED gives an interrupted block back, WAITING parks it until `retry_at`."""

    run_id: str
    claim: int
    block: str
    state: BlockState
    attempt: int
    at: datetime
    deaths: int = 0
    rows: int | None = None
    error: str | None = None
    retry_at: datetime | None = None
    checkpoint: Mapping[str, Any] | None = None
    volatile: bool = False
    reason: str | None = None  # why it waits, or was skipped
    killed: bool = False  # it was ended from outside, so that its callbacks have not heard of it


@dataclass(frozen=True, slots=True)
class BlockExpanded:
    """A block runs as children, one for each item, which get their rows. It runs until they are over."""

    run_id: str
    claim: int
    block: str
    attempt: int
    at: datetime
    children: tuple[tuple[str, int], ...]  # name and number


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run leaves this engine: final, WAITING until `available_at`, or QUEUED (given back)."""

    run_id: str
    claim: int
    state: RunState
    at: datetime
    error: str | None = None
    available_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogLines:
    run_id: str
    claim: int
    lines: tuple[LogLine, ...]  # `seq` is given by the store


Report = BlockStarted | BlockExpanded | BlockEnded | RunEnded | LogLines
