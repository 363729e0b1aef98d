"""Ticks sensors: claims a tick, polls without a transaction, and commits what came in pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import structlog

from pipelines.errors import MillraceError
from sensors.base import OptionsError, Page, SensorError
from sensors.registry import UnknownSensorError
from service.dispatcher import Dispatcher
from service.errors import ClaimLost, MillraceServiceError
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.store import sensors
from service.store.ids import new_id
from service.store.sensors import SensorClaim, SensorTick
from service.store.session import Commit, Transaction
from service.store.values import Recorded
from service.watching.leases import Leases
from service.watching.news import News, NewsDesk
from service.watching.polling import Deadline, Poll, Poller, is_shared
from service.watching.processes import SensorProcesses
from service.watching.remote_tick import GivenUp
from service.watching.standing import Standing
from service.watching.tally import Tally

logger = structlog.get_logger(__name__)


class SensorTickError(MillraceError):
    """A tick ended with an error, which its row tells. It is to be tried again."""


@dataclass(frozen=True, slots=True)
class _Tick:
    """A tick that goes on."""

    compiled: CompiledTrigger
    held: SensorClaim
    existing: Any  # of a first sight
    tally: Tally

    @property
    def room(self) -> int | None:
        """How many more events it may take (`max_events`); None: any number."""
        most = self.compiled.trigger.spec.get("max_events")
        return None if most is None else max(0, int(most) - self.tally.new)


class Watcher:
    """Ticks the sensors of triggers. Several engines may try; the store gives each tick to one."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, *, engine_id: str | None = None) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._engine_id = engine_id or new_id()
        self._is_stopping = False
        self._ticking: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        self._news = NewsDesk(runtime, dispatcher)
        self._leases = Leases(runtime.database, runtime.settings.renew_seconds)
        self._processes = SensorProcesses(runtime.settings)
        self._poller = Poller(runtime, self._processes)

    def start(self) -> None:
        """Keep the claims of ticks that take long."""
        self._leases.start()

    def stop(self) -> None:
        """End running ticks after their current page."""
        self._is_stopping = True

    def close(self) -> None:
        """End the sensor processes. To be called when no tick goes on."""
        self._processes.close()
        self._leases.close()

    def tick(self, compiled: CompiledTrigger, tick_at: datetime) -> SensorTick | None:
        """Tick the trigger's sensor for the moment `tick_at`; None when somebody is at it already.

        Raises SensorTickError after recording the failure, and StoreUnavailable.
        """
        place = compiled.state_key
        with self._lock:
            if place in self._ticking:
                return None
            self._ticking.add(place)
        try:
            return self._tick(compiled, tick_at)
        finally:
            self._ticking.discard(place)

    def _tick(self, compiled: CompiledTrigger, tick_at: datetime) -> SensorTick | None:
        held = self._claim(compiled, tick_at)
        if held is None:
            return None
        standing = Standing.begun(held.cursor, compiled.trigger.spec.get("existing"))
        tick = _Tick(compiled, held, standing.existing, Tally(standing.cursor))
        try:
            with self._leases.kept(held):
                error = self._poll(tick)
                result = self._finish(tick, error)
        except ClaimLost:
            logger.warning("sensor tick was taken over", **_names(compiled))
            return None
        _log(compiled, result)
        if error is not None:
            raise SensorTickError(error)
        return result

    def _claim(self, compiled: CompiledTrigger, tick_at: datetime) -> SensorClaim | None:
        place = compiled.state_key

        def claim(tx: Transaction) -> SensorClaim | None:
            if is_shared(compiled):
                return sensors.join_sensor(tx, *place, tick_at=tick_at)
            return sensors.claim_sensor(
                tx,
                *place,
                tick_at=tick_at,
                engine_id=self._engine_id,
                lease_seconds=self._runtime.settings.lease_seconds,
            )

        return self._runtime.database.write(Commit.SENSOR, claim)

    def _poll(self, tick: _Tick) -> str | None:
        """Take all pages of the sensor; return what went wrong."""
        try:
            poll = self._poller.poll_of(tick.compiled, tick.tally.cursor, tick.existing)
            return self._take_all(tick, poll) or _unstored(tick.tally)
        except MillraceServiceError:
            raise  # the store's, not the sensor's: nothing can be said there, or nothing may be
        except (SensorError, OptionsError, UnknownSensorError, MillraceError) as error:
            return str(error)
        except Exception as error:
            logger.exception("sensor broke", **_names(tick.compiled))
            return f"{type(error).__name__}: {error}"

    def _take_all(self, tick: _Tick, poll: Poll) -> str | None:
        """Take pages until there are no more, or the tick is to end. Return an error of the time limit."""
        deadline = Deadline(poll.request.seconds, lambda: self._is_stopping)
        tally = tick.tally
        try:
            with closing(cast(Any, self._poller.pages(poll, deadline))) as pages:
                self._take_until(tick, poll, pages, deadline)
        except GivenUp:
            raise
        except SensorError:
            tally.ended = deadline.reason()
            if tally.ended is None:
                raise
        if tally.ended and deadline.is_timeout and not (tally.has_moved or tally.new):
            return (
                f"the tick found nothing to keep within its time limit of {poll.request.seconds:g} s, "
                "and the next one would not either; raise `timeout` of the trigger"
            )
        return None

    def _take_until(self, tick: _Tick, poll: Poll, pages: Iterator[Page], deadline: Deadline) -> None:
        for page in pages:
            news = self._news.news_of(poll, page)
            if tick.tally.capped:
                tick.tally.capped += len(news.events)
                tick.tally.duplicate += news.known
            else:
                self._take(tick, poll, page, news)
            if poll.sensor.shared and (tick.tally.capped or tick.tally.failed):
                return  # going on would take from the subscription what is not committed
            tick.tally.ended = deadline.reason()
            if tick.tally.ended and not poll.sensor.shared:
                return  # a shared sensor is told to end, and goes on to settle what was committed

    def _take(self, tick: _Tick, poll: Poll, page: Page, news: News) -> None:
        """Commit a page: its events, their runs and the cursor, all or nothing."""
        tally = tick.tally
        taken = news if tick.room is None else news.first(tick.room)
        tally.capped += len(news.events) - len(taken.events)
        tally.duplicate += news.known
        cursor = page.cursor if not tally.capped else page.partly or tally.cursor
        if not taken.events and not taken.baseline and cursor == tally.cursor:
            return
        planned = self._news.plan(tick.compiled, poll.sensor, taken)
        missed = self._news.count_missed(poll, taken.events)

        def commit(tx: Transaction) -> list[Recorded | Exception]:
            answers = self._dispatcher.record_page(tx, planned)
            sensors.commit_page(tx, tick.held, Standing(cursor, tick.existing).stored())
            return answers

        tally.count(self._runtime.database.write(Commit.SENSOR, commit))
        tally.reconciled += missed
        tally.move(cursor)

    def _finish(self, tick: _Tick, error: str | None) -> SensorTick:
        result = tick.tally.result(error)
        is_whole = not (error or tick.tally.capped or tick.tally.ended)
        standing = Standing(tick.tally.cursor, None if is_whole else tick.existing)
        self._runtime.database.write(
            Commit.SENSOR, lambda tx: sensors.finish_tick(tx, tick.held, result, standing.stored())
        )
        return result


def _unstored(tally: Tally) -> str | None:
    return f"{tally.failed} events could not be stored" if tally.failed else None


def _names(compiled: CompiledTrigger) -> dict[str, str]:
    return {"project": compiled.project, "pipeline": compiled.pipeline.name, "trigger": compiled.name}


def _log(compiled: CompiledTrigger, tick: SensorTick) -> None:
    if tick.error is not None:
        logger.warning("sensor tick failed", **_names(compiled), error=tick.error)
    elif tick.new or tick.capped:
        logger.info(
            "sensor ticked", **_names(compiled), new=tick.new, duplicate=tick.duplicate, capped=tick.capped
        )
    if tick.reconciled:
        logger.warning(
            "listing found what no notification had told of", **_names(compiled), count=tick.reconciled
        )
