"""What a page has that its trigger does not know yet, and how much of that a tick may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sensors.base import Page, Sensor
from sensors.event import Event
from service.dispatcher import Dispatcher
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.store.sightings import Road, known_reports, unheard_of
from service.store.values import NewEvent
from service.watching.polling import Poll, road_of

LATE = timedelta(minutes=1)  # a notification that has not come within it is missed


@dataclass(frozen=True, slots=True)
class News:
    events: tuple[Event, ...]
    baseline: tuple[Event, ...]
    known: int

    def first(self, count: int) -> News:
        """Return it with the first `count` events only. Baseline starts nothing and is not counted."""
        return News(self.events[:count], self.baseline, self.known)


class NewsDesk:
    """Tells news from what is known, and plans it. Writes nothing."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher

    def news_of(self, poll: Poll, page: Page) -> News:
        """Leave out what is known.

        A folder that has one new file reports its thousands of old ones too. They are left out here, where
        that costs one query; the unique key stays the judge of what two engines see at once.
        """
        compiled = poll.compiled
        road = Road(*compiled.state_key, road_of(compiled, poll.sensor))
        reports = {_report(event) for event in (*page.events, *page.baseline)}
        known = known_reports(self._runtime.database, road, reports)
        events = tuple(event for event in page.events if _report(event) not in known)
        baseline = tuple(event for event in page.baseline if _report(event) not in known)
        return News(events, baseline, len(page.events) + len(page.baseline) - len(events) - len(baseline))

    def plan(self, compiled: CompiledTrigger, sensor: Sensor[Any], news: News) -> list[NewEvent]:
        """Decide what becomes of each."""
        road = road_of(compiled, sensor)
        events = [
            self._dispatcher.plan(compiled.project, event, [compiled], road=road) for event in news.events
        ]
        baseline = [
            self._dispatcher.plan_baseline(compiled.project, event, compiled, road=road)
            for event in news.baseline
        ]
        return [*events, *baseline]

    def count_missed(self, poll: Poll, events: Sequence[Event]) -> int:
        """Count those that a notification should have told of by now, and none has."""
        is_first_sight = poll.request.cursor is None
        if not poll.sensor.reconciles or is_first_sight:
            return 0
        late = {_report(event) for event in events if event.time <= poll.request.now - LATE}
        return len(unheard_of(self._runtime.database, poll.compiled.project, late)) if late else 0


def _report(event: Event) -> tuple[str, str]:
    return event.source, event.key
