"""One tick of a trigger's sensor: what it is asked, where it is done, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.errors import MillraceError
from pipelines.io.config import Profiles
from pipelines.parse_fields import duration_seconds
from sensors.base import Cursor, Page, Sensor
from sensors.registry import UnknownSensorError, configure, find
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.watching.context import tick_context
from service.watching.messages import TickRequest
from service.watching.processes import SensorProcesses

SENSOR_EVERY = "30s"  # how often a sensor ticks whose trigger does not say
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Poll:
    """A tick that has yet to be done."""

    compiled: CompiledTrigger
    sensor: Sensor[Any]
    request: TickRequest


class Deadline:
    """Tells a tick to end: when its time is over, or the engine stops."""

    def __init__(self, seconds: float, is_stopping: Callable[[], bool]) -> None:
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._is_stopping = is_stopping

    def reason(self) -> str | None:
        """Say why the tick is to end; None when it may go on."""
        if self._is_stopping():
            return "the engine stopped; the next tick goes on from here"
        if time.monotonic() > self._end:
            return f"ended by its time limit of {self._seconds:g} s; the next tick goes on from here"
        return None

    def is_over(self) -> bool:
        return self.reason() is not None

    @property
    def is_timeout(self) -> bool:
        return time.monotonic() > self._end and not self._is_stopping()


class Poller:
    """Ticks sensors, here or in a sensor process."""

    def __init__(self, runtime: Runtime, processes: SensorProcesses) -> None:
        self._runtime = runtime
        self._processes = processes

    def poll_of(self, compiled: CompiledTrigger, cursor: Cursor, existing: Any = None) -> Poll:
        """Raises MillraceError, UnknownSensorError and OptionsError."""
        sensor = sensor_of(compiled)
        listen = seconds_of(compiled, "every", SENSOR_EVERY) if sensor.shared else 0.0
        request = TickRequest(
            sensor=sensor.name,
            options=compiled.options,
            cursor=cursor,
            existing=compiled.trigger.spec.get("existing") if existing is None else existing,
            source=source_of(compiled),
            root=self._runtime.projects.get(compiled.project).root,
            now=self._runtime.clock(),
            seconds=listen + seconds_of(compiled, "timeout", TIMEOUT_SECONDS),
            listen_seconds=listen,
        )
        return Poll(compiled, sensor, request)

    def pages(self, poll: Poll, deadline: Deadline) -> Iterator[Page]:
        """Tick, and yield the pages. Raises SensorError, and what a sensor that is not apart raises."""
        if poll.sensor.apart:
            return self.pages_apart(poll, deadline)
        return self._pages_here(poll, deadline)

    def pages_apart(self, poll: Poll, deadline: Deadline) -> Iterator[Page]:
        return self._processes.pages(poll.request, shared=poll.sensor.shared, is_stopping=deadline.is_over)

    def _pages_here(self, poll: Poll, deadline: Deadline) -> Iterator[Page]:
        profiles = Profiles(poll.request.root, environ=self._runtime.environ, secrets=self._runtime.secrets)
        context = tick_context(poll.request, profiles, is_stopping=deadline.is_over)
        return poll.sensor.tick(poll.request.cursor, context)


def sensor_of(compiled: CompiledTrigger) -> Sensor[Any]:
    """Build the trigger's sensor. Raises MillraceError, UnknownSensorError and OptionsError."""
    if compiled.fault is not None:
        raise MillraceError(compiled.fault)
    return configure(str(compiled.trigger.spec.get("sensor")), compiled.options)


def is_shared(compiled: CompiledTrigger) -> bool:
    """Tell whether several engines may tick its sensor at once."""
    try:
        return find(str(compiled.trigger.spec.get("sensor"))).shared
    except UnknownSensorError:
        return False


def source_of(compiled: CompiledTrigger) -> str:
    return f"{compiled.trigger.spec['sensor']}:{compiled.pipeline.name}/{compiled.name}"


def road_of(compiled: CompiledTrigger, sensor: Sensor[Any]) -> str:
    """Name the road by which its events come: one for all triggers that list what others tell of, too."""
    return sensor.name if type(sensor).covers is not Sensor.covers else source_of(compiled)


def seconds_of(compiled: CompiledTrigger, key: str, default: object) -> float:
    """Return a span of time that the trigger gives. Raises MillraceError."""
    try:
        return duration_seconds(compiled.trigger.spec.get(key) or default)
    except ValueError as error:
        raise MillraceError(f"`{key}`: {error}") from None
