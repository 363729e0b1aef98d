"""From slots to the run that does them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipelines.model import Pipeline
from pipelines.templating import TemplateError
from pipelines.variables import InputError, check_inputs
from sensors.event import Event
from service.backfills.request import PRIORITY, BackfillError
from service.backfills.slots import Slot
from service.matching.limiting import run_limits, run_throttles
from service.matching.mapping import MappingError, variables_of
from service.matching.triggers import CompiledTrigger
from service.store.backfills import Place
from service.store.ids import new_id
from service.store.values import Limit, NewRun, Throttle, WhenFull

TICK_TYPE = "schedule.tick"


class Unmade(Exception):
    """No run can be made of these slots. One sentence."""


class Filtered(Unmade):
    """The trigger's filter does not want them."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The pipeline, and the trigger if one was named, as the files have them now."""

    place: Place
    pipeline: Pipeline
    compiled: CompiledTrigger | None

    def zone(self, name: str | None) -> ZoneInfo:
        """Return the zone of that name, else the trigger's. Raises BackfillError."""
        wanted = name or (self.compiled.timezone if self.compiled is not None else "UTC")
        try:
            return ZoneInfo(wanted)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BackfillError(
                f"there is no time zone {wanted!r}; use a name such as Europe/Berlin"
            ) from None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the trigger, or else the pipeline, says of a run."""

    variables: Mapping[str, Any]
    limits: tuple[Limit, ...]
    throttles: tuple[Throttle, ...]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the runs of one backfill over dates."""

    declared: Declared
    given: Mapping[str, Any]
    timezone: str
    is_chunked: bool

    def run(self, slots: Sequence[Slot], backfill_id: str | None = None) -> NewRun:
        """Return the run of the slots, which follow one another. Raises Unmade."""
        place, compiled = self.declared.place, self.declared.compiled
        try:
            asked = self._by_hand() if compiled is None else self._by(compiled, slots[0].start)
            variables = self._variables(asked.variables, slots)
        except (TemplateError, MappingError, InputError) as error:
            raise Unmade(str(error)) from error
        run = NewRun(
            id=new_id(),
            project=place.project,
            pipeline=place.pipeline,
            trigger=place.trigger,
            execution_date=slots[0].start,
            interval_start=slots[0].start,
            interval_end=slots[-1].end,
            variables=variables,
            limits=asked.limits,
            throttles=asked.throttles,
            timezone=self.timezone,
            options={} if compiled is None else compiled.run_options,
        )
        return of_backfill(run, backfill_id)

    def _by_hand(self) -> _Asked:
        project, pipeline = self.declared.place.project, self.declared.pipeline
        return _Asked({}, run_limits(project, pipeline), run_throttles(project, pipeline))

    def _by(self, compiled: CompiledTrigger, moment: datetime) -> _Asked:
        if compiled.fault is not None:
            raise Unmade(compiled.fault)
        event = _tick(self.declared.place, moment)
        if not compiled.matches(event):
            raise Filtered("the trigger's filter is false")
        value = event.as_template_value("")
        return _Asked(
            variables_of(compiled, event, value), compiled.limits_of(value), compiled.throttles_of(value)
        )

    def _variables(self, found: Mapping[str, Any], slots: Sequence[Slot]) -> dict[str, Any]:
        spans = [{"start": iso(slot.start), "end": iso(slot.end)} for slot in slots]
        chunked = {"slots": spans} if self.is_chunked else {}
        return check_inputs(self.declared.pipeline, {**found, **self.given, **chunked})


def of_backfill(run: NewRun, backfill_id: str | None) -> NewRun:
    """Return the run as one of a backfill: behind all others, and waiting where a limit would skip it."""
    limits = tuple(replace(limit, when_full=WhenFull.QUEUE) for limit in run.limits)
    throttles = tuple(replace(throttle, when_full=WhenFull.QUEUE) for throttle in run.throttles)
    return replace(run, priority=PRIORITY, limits=limits, throttles=throttles, backfill_id=backfill_id)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _tick(place: Place, at: datetime) -> Event:
    """Return the event that the trigger's templates see: it looks like a tick, and is not recorded."""
    moment = iso(at)
    source = f"backfill:{place.pipeline}/{place.trigger}"
    return Event(source=source, key=moment, type=TICK_TYPE, time=at, data={"tick": moment})
