"""Sensors as JSON: where they stand, what their ticks came to, and what a dry tick would find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from pipelines.model import TriggerType
from service.errors import WrongState
from service.matching.rendering import Rendering
from service.matching.triggers import CompiledTrigger, compile_trigger
from service.runtime import Runtime
from service.store import sensors
from service.store.sensors import FinishedTick, SensorState
from service.store.session import Commit
from service.store.values import NewMatch, Outcome
from service.watching.dry import DryEvent, DryTick, Standpoint
from service.watching.polling import SENSOR_EVERY
from service.watching.standing import Standing
from service.web.declarations import Declarations, TriggerJson
from service.web.schemas import ListJson, Moment, Shape

Existing = Literal["ignore", "trigger"]


class SensorTickJson(Shape):
    """One tick."""

    id: str
    tick_at: Moment = Field(description="When it was due.")
    started_at: Moment
    finished_at: Moment
    seen: int
    new: int
    duplicate: int = Field(description="Known already.")
    filtered: int
    capped: int = Field(description="New, and left for the next tick by `max_events`.")
    reconciled: int = Field(description="New, and no notification had told of them.")
    error: str | None
    reason: str | None = Field(description="Why nothing ran, or not all.")
    cursor_before: Any
    cursor_after: Any

    @classmethod
    def of(cls, tick: FinishedTick) -> SensorTickJson:
        result = tick.result
        return cls(
            id=tick.id,
            tick_at=tick.tick_at,
            started_at=tick.started_at,
            finished_at=tick.finished_at,
            seen=result.seen,
            new=result.new,
            duplicate=result.duplicate,
            filtered=result.filtered,
            capped=result.capped,
            reconciled=result.reconciled,
            error=result.error,
            reason=result.reason,
            cursor_before=tick.cursor_before,
            cursor_after=tick.cursor_after,
        )


class SensorJson(Shape):
    project: str
    pipeline: str
    trigger: str
    sensor: str
    enabled: bool = Field(description="What the file says.")
    paused: bool = Field(description="A paused trigger holds its events until it is resumed.")
    every: str
    cursor: Any = Field(description="Where it stands; null before its first tick.")
    ticking: bool = Field(description="An engine is at it.")
    last_tick: SensorTickJson | None

    @classmethod
    def of(cls, trigger: TriggerJson, state: SensorState, last: FinishedTick | None) -> SensorJson:
        return cls(
            project=trigger.project,
            pipeline=trigger.pipeline,
            trigger=trigger.name,
            sensor=str(trigger.fires.get("sensor")),
            enabled=trigger.enabled,
            paused=trigger.paused,
            every=str(trigger.fires.get("every") or SENSOR_EVERY),
            cursor=state.cursor,
            ticking=state.engine_id is not None,
            last_tick=None if last is None else SensorTickJson.of(last),
        )


class SensorDetailJson(SensorJson):
    ticks: tuple[SensorTickJson, ...] = Field(description="The newest first.")


class SensorListJson(ListJson[SensorJson]):
    """Sensors, by project, pipeline and the order of their file."""


class DryMatchJson(Shape):
    """What a trigger would make of an event."""

    pipeline: str
    trigger: str
    outcome: Outcome
    reason: str | None
    variables: Mapping[str, Any] | None = Field(description="Of the run that would start.")
    execution_date: Moment | None

    @classmethod
    def of(cls, match: NewMatch) -> DryMatchJson:
        run = match.run
        return cls(
            pipeline=match.pipeline,
            trigger=match.trigger,
            outcome=match.outcome,
            reason=match.reason,
            variables=None if run is None else run.variables,
            execution_date=None if run is None else run.execution_date,
        )


class DryEventJson(Shape):
    state: Standpoint
    key: str
    source: str
    type: str
    time: Moment
    subject: str | None
    data: Any
    matches: tuple[DryMatchJson, ...]

    @classmethod
    def of(cls, found: DryEvent) -> DryEventJson:
        event = found.event
        return cls(
            state=found.state,
            key=event.key,
            source=event.source,
            type=event.type,
            time=event.time,
            subject=event.subject,
            data=event.data,
            matches=tuple(map(DryMatchJson.of, found.matches)),
        )


class DryTickJson(Shape):
    """What a tick would find now. Nothing of it is recorded."""

    new: int
    baseline: int
    known: int
    cursor_before: Any
    cursor_after: Any
    events: tuple[DryEventJson, ...] = Field(description="The first ones of each state.")
    ended: str | None = Field(description="What cut it short.")
    error: str | None

    @classmethod
    def of(cls, found: DryTick) -> DryTickJson:
        return cls(
            new=found.counts[Standpoint.NEW],
            baseline=found.counts[Standpoint.BASELINE],
            known=found.counts[Standpoint.KNOWN],
            cursor_before=found.cursor_before,
            cursor_after=found.cursor_after,
            events=tuple(map(DryEventJson.of, found.events)),
            ended=found.ended,
            error=found.error,
        )


class SensorViews:
    """Looks up sensors, and sets them anew."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._declarations = Declarations(runtime)

    def all(self, project: str | None, pipeline: str | None) -> list[SensorJson]:
        return [
            self._describe(trigger)
            for trigger in self._declarations.triggers(project, pipeline)
            if trigger.type is TriggerType.SENSOR
        ]

    def one(self, project: str | None, pipeline: str, name: str, *, ticks: int) -> SensorDetailJson:
        """Return a sensor with its last ticks.

        Raises UnknownProject, UnknownPipeline, NotFound, and WrongState for a trigger of another type.
        """
        described = self._describe(self._trigger(project, pipeline, name))
        with self._runtime.database.read() as connection:
            found = sensors.listing(connection, described.project, pipeline, name, limit=ticks)
        return SensorDetailJson(**dict(described), ticks=tuple(map(SensorTickJson.of, found)))

    def compiled(self, project: str | None, pipeline: str, name: str) -> CompiledTrigger:
        """Return the trigger with its options rendered. Raises like `one`."""
        home = self._trigger(project, pipeline, name).project
        declared = self._runtime.projects.get(home).pipelines[pipeline]
        trigger = next(one for one in declared.triggers if one.name == name)
        rendering = Rendering(self._runtime.environ, self._runtime.secrets)
        return compile_trigger(home, declared, trigger, rendering)

    def reset(self, project: str | None, pipeline: str, name: str, existing: Existing) -> None:
        """Let the next tick look as if for the first time. Raises like `one`."""
        home = self._trigger(project, pipeline, name).project
        stored = Standing(None, existing).stored()
        self._runtime.database.write(
            Commit.SENSOR, lambda tx: sensors.reset_sensor(tx, home, pipeline, name, stored)
        )

    def _trigger(self, project: str | None, pipeline: str, name: str) -> TriggerJson:
        trigger = self._declarations.trigger(project, pipeline, name)
        if trigger.type is not TriggerType.SENSOR:
            raise WrongState("trigger", f"{pipeline}/{name}", f"of the type {trigger.type}", "tick")
        return trigger

    def _describe(self, trigger: TriggerJson) -> SensorJson:
        place = (trigger.project, trigger.pipeline, trigger.name)
        with self._runtime.database.read() as connection:
            state = sensors.state_of(connection, *place)
            last = sensors.listing(connection, *place, limit=1)
        return SensorJson.of(trigger, state, last[0] if last else None)
