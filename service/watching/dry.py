"""A dry tick: what a sensor would find and what its triggers would make of it. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

from pipelines.errors import MillraceError
from sensors.base import Cursor, OptionsError, Page, SensorError
from sensors.event import Event
from sensors.registry import UnknownSensorError
from service.dispatcher import Dispatcher
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.store import sensors
from service.store.values import NewEvent, NewMatch
from service.watching.news import NewsDesk
from service.watching.polling import Deadline, Poll, Poller
from service.watching.processes import SensorProcesses
from service.watching.standing import Standing

LISTEN_SECONDS = 5.0  # for what waits in a subscription
TIMEOUT_SECONDS = 60.0  # at most, whatever the trigger allows: somebody waits for the answer


class Standpoint(StrEnum):
    """What an event is to the trigger."""

    NEW = "new"
    BASELINE = "baseline"  # there at first sight, and starting nothing
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class DryEvent:
    event: Event
    state: Standpoint
    matches: tuple[NewMatch, ...] = ()


@dataclass(slots=True)
class DryTick:
    """What a tick would come to."""

    cursor_before: Cursor = None
    cursor_after: Cursor = None
    counts: Counter[Standpoint] = field(default_factory=Counter)
    events: list[DryEvent] = field(default_factory=list)  # of each state the first ones
    ended: str | None = None  # what cut it short
    error: str | None = None


class DryTicks:
    """Ticks dry, in a sensor process that ends with it."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._news = NewsDesk(runtime, dispatcher)

    def tick(self, compiled: CompiledTrigger, *, limit: int) -> DryTick:
        """Tick, and show up to `limit` events of each kind. Whatever goes wrong is told in the answer."""
        with self._runtime.database.read() as connection:
            standing = Standing.of(sensors.state_of(connection, *compiled.state_key).cursor)
        found = DryTick(standing.cursor, standing.cursor)
        processes = SensorProcesses(self._runtime.settings)
        try:
            self._tick(Poller(self._runtime, processes), compiled, standing, found, limit)
        except (SensorError, OptionsError, UnknownSensorError, MillraceError) as error:
            found.error = str(error)
        finally:
            processes.close()
        return found

    def _tick(
        self, poller: Poller, compiled: CompiledTrigger, standing: Standing, found: DryTick, limit: int
    ) -> None:
        poll = _bounded(poller.poll_of(compiled, standing.cursor, standing.existing))
        deadline = Deadline(poll.request.seconds, bool)
        with closing(cast(Any, poller.pages_apart(poll, deadline))) as pages:
            for page in pages:
                found.cursor_after = page.cursor
                for event in self._judged(poll, page):
                    found.counts[event.state] += 1
                    if found.counts[event.state] <= limit:
                        found.events.append(self._decided(poll, event))
                found.ended = deadline.reason()
                if found.ended or poll.sensor.shared:
                    return  # what a subscription handed out goes back unread when the tick is closed

    def _judged(self, poll: Poll, page: Page) -> Iterator[DryEvent]:
        news = self._news.news_of(poll, page)
        unknown = {id(event) for event in (*news.events, *news.baseline)}
        for event in page.events:
            yield DryEvent(event, Standpoint.NEW if id(event) in unknown else Standpoint.KNOWN)
        for event in page.baseline:
            yield DryEvent(event, Standpoint.BASELINE if id(event) in unknown else Standpoint.KNOWN)

    def _decided(self, poll: Poll, event: DryEvent) -> DryEvent:
        if event.state is not Standpoint.NEW:
            return event
        planned: NewEvent = self._dispatcher.plan(poll.compiled.project, event.event, [poll.compiled])
        return replace(event, matches=planned.matches)


def _bounded(poll: Poll) -> Poll:
    seconds = min(poll.request.seconds, TIMEOUT_SECONDS)
    listen = min(poll.request.listen_seconds, LISTEN_SECONDS)
    return replace(poll, request=replace(poll.request, seconds=seconds, listen_seconds=listen))
