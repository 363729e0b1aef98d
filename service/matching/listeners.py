"""Triggers that wait for events of others: by their type, or because their sensor covers what is told of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.model import TriggerType
from sensors.base import OptionsError, Sensor
from sensors.event import Event
from sensors.registry import UnknownSensorError, configure
from service.intake.cloudevents import SOURCE_PREFIX
from service.matching.triggers import CompiledTrigger, StateKey


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listening triggers of one project."""

    by_type: Mapping[str, tuple[CompiledTrigger, ...]]
    watching: tuple[tuple[CompiledTrigger, Sensor[Any]], ...]
    expected: tuple[Mapping[str, Any], ...] = ()  # what `expectation` triggers count

    @classmethod
    def of(cls, triggers: Iterable[CompiledTrigger]) -> Listeners:
        by_type: dict[str, list[CompiledTrigger]] = defaultdict(list)
        watching, expected = [], []
        for compiled in triggers:
            if compiled.trigger.type is TriggerType.EVENT:
                by_type[str(compiled.trigger.spec.get("event"))].append(compiled)
            elif compiled.trigger.type is TriggerType.SENSOR and (sensor := _sharing(compiled)):
                watching.append((compiled, sensor))
            elif compiled.trigger.type is TriggerType.EXPECTATION:
                expected.append(compiled.trigger.spec.get("expect") or {})
        by_kind = {kind: tuple(found) for kind, found in by_type.items()}
        return cls(by_kind, tuple(watching), tuple(expected))

    def concerned(
        self, event: Event, own: Sequence[CompiledTrigger], seen: frozenset[StateKey]
    ) -> list[CompiledTrigger]:
        """Return `own`, and after them all others that the event concerns.

        What a sensor's own listing finds may be old for a trigger that has not had its first sight: only
        those in `seen` take it, and the others judge it by their own listing.
        """
        covering = [compiled for compiled, sensor in self.watching if sensor.covers(event)]
        others = self.hearing(event.type, event.source)
        if not covering and not others:
            return list(own)
        taken = {compiled.state_key for compiled in own}
        is_listed = any(compiled.state_key in taken for compiled in covering)
        others += [one for one in covering if not is_listed or one.state_key in seen]
        return [*own, *(one for one in others if one.state_key not in taken)]

    def hearing(self, kind: str, source: str | None = None) -> list[CompiledTrigger]:
        """Return the triggers that wait for events of this type; from this source, where one is named."""
        waiting = self.by_type.get(kind, ())
        return [compiled for compiled in waiting if source is None or _is_from(compiled, source)]

    def awaits(self, kind: str, source: str | None = None) -> bool:
        """Tell whether such an event starts or saves anything; from this source, where one is named."""
        return bool(self.hearing(kind, source)) or any(_counts(one, kind, source) for one in self.expected)


def _counts(expected: Mapping[str, Any], kind: str, source: str | None) -> bool:
    event, wanted = expected.get("event"), expected.get("source")
    is_other = event not in (None, kind) or (source is not None and wanted not in (None, source))
    return not is_other and (event is not None or wanted is not None)


def _sharing(compiled: CompiledTrigger) -> Sensor[Any] | None:
    """Return the sensor of the trigger where it takes events that other roads bring."""
    if compiled.fault is not None:
        return None
    try:
        sensor = configure(str(compiled.trigger.spec.get("sensor")), compiled.options)
    except (OptionsError, UnknownSensorError):
        return None  # its ticks tell
    return sensor if type(sensor).covers is not Sensor.covers else None


def _is_from(compiled: CompiledTrigger, source: str) -> bool:
    wanted = compiled.trigger.spec.get("source")
    return wanted is None or str(wanted) in (source, source.removeprefix(SOURCE_PREFIX))
