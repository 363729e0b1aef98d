"""What the first page shows, gathered from the projects and the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.model import Problem, Severity, TriggerType
from service.runtime import Runtime
from service.store import events, runs
from service.store.values import BlockRun, BlockState, Run, StoredEvent
from service.web.badges import (
    BLOCK_BADGES,
    CANCELLING,
    DISABLED,
    NEVER_RAN,
    OUTCOME_BADGES,
    PAUSED,
    RUN_BADGES,
    Badge,
)
from service.web.declarations import Declarations, PipelineJson, TriggerJson
from service.web.health import NO_ENGINE, engine_is_alive

SHOWN_RUNS = 25
SHOWN_EVENTS = 25
SHOWN_CHIPS = 12  # a run with more blocks shows how many are in which state
SHOWN_PROBLEMS = 50
_OPEN = (BlockState.QUEUED, BlockState.RUNNING, BlockState.WAITING)
_ERROR_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Chip:
    badge: Badge
    text: str


@dataclass(frozen=True, slots=True)
class RunRow:
    id: str
    pipeline: str
    trigger: str | None
    badge: Badge
    is_over: bool
    chips: tuple[Chip, ...]
    created_at: datetime
    took: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class TriggerRow:
    name: str
    type: str
    when: str | None
    badge: Badge | None


@dataclass(frozen=True, slots=True)
class PipelineRow:
    project: str
    name: str
    description: str
    blocks: int
    last: Badge
    triggers: tuple[TriggerRow, ...]


@dataclass(frozen=True, slots=True)
class EventRow:
    id: str
    badge: Badge
    source: str
    type: str
    subject: str | None
    reason: str | None
    run_ids: tuple[str, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    title: str
    alarms: tuple[str, ...]
    problems: tuple[Problem, ...]
    pipelines: tuple[PipelineRow, ...]
    runs: tuple[RunRow, ...]
    events: tuple[EventRow, ...]
    example: str | None  # the address of a webhook to try, while nothing has arrived


def gather(runtime: Runtime) -> Overview:
    """Read everything the page shows. Raises StoreUnavailable."""
    declared = Declarations(runtime).pipelines(None)
    with runtime.database.read() as connection:
        found_runs = runs.listing(connection, limit=SHOWN_RUNS)
        found_events = events.listing(connection, limit=SHOWN_EVENTS)
        last = [
            runs.listing(connection, runs.RunFilters(project=one.project, pipeline=one.name), limit=1)
            for one in declared
        ]
    now = runtime.clock()
    return Overview(
        title=", ".join(runtime.projects.names),
        alarms=_alarms(runtime),
        problems=_problems(runtime),
        pipelines=tuple(_pipeline_row(one, found) for one, found in zip(declared, last, strict=True)),
        runs=tuple(_run_row(run, now) for run in found_runs),
        events=tuple(_event_row(event) for event in found_events),
        example=next((trigger.url for one in declared for trigger in one.triggers if trigger.url), None),
    )


def _alarms(runtime: Runtime) -> tuple[str, ...]:
    if engine_is_alive(runtime):
        return ()
    return (NO_ENGINE,)


def _problems(runtime: Runtime) -> tuple[Problem, ...]:
    found = [problem for project in runtime.projects.all() for problem in project.problems]
    return tuple(problem for problem in found if problem.severity is not Severity.INFO)[:SHOWN_PROBLEMS]


def _pipeline_row(pipeline: PipelineJson, last: Sequence[Run]) -> PipelineRow:
    return PipelineRow(
        project=pipeline.project,
        name=pipeline.name,
        description=pipeline.description,
        blocks=len(pipeline.blocks),
        last=_run_badge(last[0]) if last else NEVER_RAN,
        triggers=tuple(_trigger_row(trigger) for trigger in pipeline.triggers),
    )


def _trigger_row(trigger: TriggerJson) -> TriggerRow:
    badge = None if trigger.enabled else DISABLED
    return TriggerRow(
        name=trigger.name,
        type=trigger.type.value,
        when=_when(trigger),
        badge=PAUSED if trigger.paused else badge,
    )


def _when(trigger: TriggerJson) -> str | None:
    if trigger.type is TriggerType.WEBHOOK:
        return trigger.url
    fires = trigger.fires
    if "cron" in fires:
        return f"{fires['cron']} {fires.get('timezone', 'UTC')}"
    named = fires.get("sensor") or fires.get("event")
    parts = [str(named)] if named else []
    if "every" in fires:
        parts.append(f"every {fires['every']}")
    return " ".join(parts) or None


def _run_row(run: Run, now: datetime) -> RunRow:
    return RunRow(
        id=run.id,
        pipeline=run.pipeline,
        trigger=run.trigger,
        badge=_run_badge(run),
        is_over=run.state.is_final,
        chips=_chips(run.blocks),
        created_at=run.created_at,
        took=None if run.started_at is None else duration_text((run.finished_at or now) - run.started_at),
        error=_first_line(run.error),
    )


def _run_badge(run: Run) -> Badge:
    if run.cancel_requested and not run.state.is_final:
        return CANCELLING
    return RUN_BADGES[run.state]


def _chips(blocks: Sequence[BlockRun]) -> tuple[Chip, ...]:
    if len(blocks) <= SHOWN_CHIPS:
        return tuple(Chip(BLOCK_BADGES[block.state], _chip_name(block)) for block in blocks)
    counted = Counter(block.state for block in blocks)
    return tuple(
        Chip(badge, f"{counted[state]} {badge.word}")
        for state, badge in BLOCK_BADGES.items()
        if state in counted
    )


def _chip_name(block: BlockRun) -> str:
    """Name a block, and how many of its children are through."""
    if not block.children:
        return block.name
    through = sum(count for state, count in block.children.items() if state not in _OPEN)
    return f"{block.name} {through}/{sum(block.children.values())}"


def _event_row(event: StoredEvent) -> EventRow:
    return EventRow(
        id=event.id,
        badge=OUTCOME_BADGES[event.outcome],
        source=event.source,
        type=event.type,
        subject=event.subject,
        reason=_first_line(event.reason or _reason_of_a_match(event)),
        run_ids=event.run_ids,
        received_at=event.received_at,
    )


def _reason_of_a_match(event: StoredEvent) -> str | None:
    return next((match.reason for match in event.matches if match.reason), None)


def _first_line(text: str | None) -> str | None:
    if not text or not text.strip():
        return None
    line = text.strip().splitlines()[0]
    return line if len(line) <= _ERROR_LENGTH else f"{line[:_ERROR_LENGTH]}…"


def duration_text(took: timedelta) -> str:
    """Write a duration with the two units that matter: `38 ms`, `4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    seconds = max(0.0, took.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
