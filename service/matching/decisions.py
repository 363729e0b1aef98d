"""What one trigger makes of one event. Pure: nothing here reads or writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.templating import TemplateError
from pipelines.variables import InputError, check_inputs
from sensors.event import Event
from service.matching.mapping import MappingError, execution_date_of, variables_of
from service.matching.settling import BATCH_SETTLED, batch_source
from service.matching.triggers import CompiledTrigger
from service.store.ids import new_id
from service.store.values import OUTCOME_ORDER, NewMatch, NewRun, Outcome

MAX_HOPS = 10  # runs that may lead to an event, one after the other, for it to start one more


@dataclass(frozen=True, slots=True)
class Interval:
    """The span of time that a tick stands for."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the trigger and the event."""

    event_id: str
    now: datetime
    is_paused: bool = False
    interval: Interval | None = None
    max_hops: int = MAX_HOPS


def decide(compiled: CompiledTrigger, event: Event, circumstances: Circumstances) -> NewMatch:
    """Return the match; when it is RAN it carries the run. Raises nothing for what an event can hold."""
    if event.quarantine is not None:
        return _ended(compiled, Outcome.QUARANTINED, event.quarantine)
    if circumstances.is_paused:
        outcome = Outcome.SKIPPED if compiled.drops_while_paused else Outcome.HELD
        return _ended(compiled, outcome, "the trigger is paused")
    if compiled.fault is not None:
        return _ended(compiled, Outcome.MAPPING_FAILED, compiled.fault)
    if _is_own_batch(compiled, event):
        return _started(compiled, event, circumstances)
    misfit = compiled.schema.misfit(event.data) if compiled.schema is not None else None
    if misfit is not None:
        return _ended(compiled, Outcome.MAPPING_FAILED, misfit)
    try:
        kept_back = _kept_back(compiled, event, circumstances)
    except TemplateError as error:
        return _ended(compiled, Outcome.MAPPING_FAILED, str(error))
    return kept_back or _started(compiled, event, circumstances)


def outcome_of(matches: tuple[NewMatch, ...]) -> Outcome:
    """Return the event's own outcome: the first in the documented order among its matches."""
    if len(matches) == 1:
        return matches[0].outcome
    found = {match.outcome for match in matches}
    if Outcome.QUARANTINED in found:
        return Outcome.QUARANTINED
    return next((outcome for outcome in OUTCOME_ORDER if outcome in found), Outcome.UNMATCHED)


def _kept_back(compiled: CompiledTrigger, event: Event, circumstances: Circumstances) -> NewMatch | None:
    """Return the match of an event that starts no run of its own: others pass."""
    if not compiled.matches(event, circumstances.event_id):
        return _ended(compiled, Outcome.FILTERED, "the filter is false")
    if event.hops > circumstances.max_hops:
        return _ended(compiled, Outcome.SKIPPED, _too_far(event, circumstances))
    if compiled.settle is None:
        return None
    group = compiled.settle.group_of(event.as_template_value(circumstances.event_id))
    return replace(_ended(compiled, Outcome.HELD, "settling"), settle_group=group)


def _started(compiled: CompiledTrigger, event: Event, circumstances: Circumstances) -> NewMatch:
    try:
        run = _run(compiled, event, circumstances)
    except (TemplateError, MappingError, InputError) as error:
        return _ended(compiled, Outcome.MAPPING_FAILED, str(error))
    return NewMatch(compiled.pipeline.name, compiled.name, Outcome.RAN, run=run)


def _is_own_batch(compiled: CompiledTrigger, event: Event) -> bool:
    """Tell a batch of the trigger's own from what it gathers. Its members have passed the filter."""
    own = batch_source(compiled.pipeline.name, compiled.name)
    return event.type == BATCH_SETTLED and event.source == own


def _run(compiled: CompiledTrigger, event: Event, circumstances: Circumstances) -> NewRun:
    value = event.as_template_value(circumstances.event_id)
    interval = circumstances.interval
    return NewRun(
        id=new_id(),
        project=compiled.project,
        pipeline=compiled.pipeline.name,
        trigger=compiled.name,
        event_id=circumstances.event_id,
        variables=check_inputs(compiled.pipeline, variables_of(compiled, event, value)),
        execution_date=execution_date_of(compiled, event, value, circumstances.now),
        interval_start=interval.start if interval else None,
        interval_end=interval.end if interval else None,
        limits=compiled.limits_of(value),
        throttles=compiled.throttles_of(value),
        priority=compiled.priority,
        timezone=compiled.timezone,
        hops=event.hops,
        options=compiled.run_options,
    )


def _too_far(event: Event, circumstances: Circumstances) -> str:
    return (
        f"{event.hops} runs led to it one after the other, over the limit of {circumstances.max_hops}: "
        "if they do not go in a circle, raise MILLRACE_MAX_HOPS"
    )


def _ended(compiled: CompiledTrigger, outcome: Outcome, reason: str) -> NewMatch:
    return NewMatch(compiled.pipeline.name, compiled.name, outcome, reason)
