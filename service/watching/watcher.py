"""Ticks sensors: claims a tick, polls without a transaction, and commits what came in pages."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from pipelines.errors import MillraceError
from sensors.base import Cursor, Existing, OptionsError, Page, Sensor, SensorError, TickContext
from sensors.registry import UnknownSensorError, configure, find
from service.dispatcher import Dispatcher
from service.errors import ClaimLost, MillraceServiceError
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.store import sensors
from service.store.ids import new_id
from service.store.sensors import SensorClaim, SensorTick
from service.store.session import Commit, Transaction
from service.store.sightings import Road, known_reports
from service.store.values import NewEvent, Outcome, Recorded

logger = structlog.get_logger(__name__)

LEASE_SECONDS = 60.0  # renewed by every page; a tick whose engine died is taken over after it


class SensorTickError(MillraceError):
    """A tick ended with an error, which its row tells. It is to be tried again."""


@dataclass(slots=True)
class _Tally:
    """What one tick has found so far."""

    cursor: Cursor
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    duplicate: int = 0
    failed: int = 0

    @property
    def new(self) -> int:
        return self.outcomes.total()

    @property
    def seen(self) -> int:
        return self.new + self.duplicate + self.failed

    def count(self, answers: Sequence[Recorded | Exception]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                self.failed += 1
            elif answer.duplicate:
                self.duplicate += 1
            else:
                self.outcomes[answer.outcome] += 1

    def reason(self) -> str | None:
        """Say why nothing ran; None when something did."""
        if self.outcomes[Outcome.RAN]:
            return None
        if not self.seen:
            return "nothing has changed"
        if not self.new:
            return f"all {self.duplicate} are known"
        parts = [f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())]
        return ", ".join(parts)


class Watcher:
    """Ticks the sensors of triggers. Several engines may try; the store gives each tick to one."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, *, engine_id: str | None = None) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._engine_id = engine_id or new_id()
        self._is_stopping = False
        self._ticking: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End running ticks after their current page."""
        self._is_stopping = True

    def tick(self, compiled: CompiledTrigger, tick_at: datetime) -> SensorTick | None:
        """Tick the trigger's sensor for the moment `tick_at`; None when somebody is at it already.

        Raises SensorTickError after recording the failure, and StoreUnavailable.
        """
        place = _place(compiled)
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
        tally = _Tally(held.cursor)
        try:
            error = self._poll(compiled, held, tally)
            tick = self._finish(held, tally, error)
        except ClaimLost:
            logger.warning("sensor tick was taken over", **_names(compiled))
            return None
        _log(compiled, tick)
        if error is not None:
            raise SensorTickError(error)
        return tick

    def _claim(self, compiled: CompiledTrigger, tick_at: datetime) -> SensorClaim | None:
        return self._runtime.database.write(
            Commit.SENSOR,
            lambda tx: sensors.claim_sensor(
                tx,
                *_place(compiled),
                tick_at=tick_at,
                engine_id=self._engine_id,
                lease_seconds=LEASE_SECONDS,
            ),
        )

    def _poll(self, compiled: CompiledTrigger, held: SensorClaim, tally: _Tally) -> str | None:
        """Take all pages of the sensor; return what went wrong."""
        try:
            sensor = sensor_of(compiled)
            context = self._context(compiled)
            for page in sensor.tick(held.cursor, context):
                self._take(compiled, held, page, tally)
        except MillraceServiceError:
            raise  # the store's, not the sensor's: nothing can be said there, or nothing may be
        except (SensorError, OptionsError, UnknownSensorError, MillraceError) as error:
            return str(error)
        except Exception as error:
            logger.exception("sensor broke", **_names(compiled))
            return f"{type(error).__name__}: {error}"
        return f"{tally.failed} events could not be stored" if tally.failed else None

    def _context(self, compiled: CompiledTrigger) -> TickContext:
        return TickContext(
            source=_source(compiled),
            now=self._runtime.clock(),
            root=self._runtime.projects.get(compiled.project).root,
            existing=_existing(compiled),
            is_stopping=lambda: self._is_stopping,
        )

    def _take(self, compiled: CompiledTrigger, held: SensorClaim, page: Page, tally: _Tally) -> None:
        """Commit a page: its events, their runs and the cursor, all or nothing."""
        planned, known = self._plan(compiled, page)
        if not planned and page.cursor == tally.cursor:
            tally.duplicate += known
            return

        def commit(tx: Transaction) -> list[Recorded | Exception]:
            answers = self._dispatcher.record_page(tx, planned)
            sensors.commit_page(tx, held, page.cursor)
            return answers

        tally.count(self._runtime.database.write(Commit.SENSOR, commit))
        tally.duplicate += known
        tally.cursor = page.cursor

    def _plan(self, compiled: CompiledTrigger, page: Page) -> tuple[list[NewEvent], int]:
        """Plan the events nobody knows yet; return them and how many are known.

        A folder that has one new file reports its thousands of old ones too. They are left out here, where
        that costs one query; the unique key stays the judge of what two engines see at once.
        """
        road = _road(compiled)
        reports = {(event.source, event.key) for event in (*page.events, *page.baseline)}
        known = known_reports(self._runtime.database, Road(*_place(compiled), road), reports)
        planned = [
            self._dispatcher.plan(compiled.project, event, [compiled], road=road)
            for event in page.events
            if (event.source, event.key) not in known
        ]
        planned += [
            self._dispatcher.plan_baseline(compiled.project, event, compiled, road=road)
            for event in page.baseline
            if (event.source, event.key) not in known
        ]
        return planned, len(page.events) + len(page.baseline) - len(planned)

    def _finish(self, held: SensorClaim, tally: _Tally, error: str | None) -> SensorTick:
        tick = SensorTick(
            seen=tally.seen,
            new=tally.new,
            duplicate=tally.duplicate,
            filtered=tally.outcomes[Outcome.FILTERED],
            error=error,
            reason=None if error else tally.reason(),
        )
        self._runtime.database.write(
            Commit.SENSOR, lambda tx: sensors.finish_tick(tx, held, tick, tally.cursor)
        )
        return tick


def sensor_of(compiled: CompiledTrigger) -> Sensor[Any]:
    """Build the trigger's sensor. Raises MillraceError, UnknownSensorError and OptionsError."""
    if compiled.fault is not None:
        raise MillraceError(compiled.fault)
    return configure(str(compiled.trigger.spec.get("sensor")), compiled.options)


def _existing(compiled: CompiledTrigger) -> Existing:
    try:
        return Existing.parse(compiled.trigger.spec.get("existing"))
    except ValueError as error:
        raise MillraceError(str(error)) from None


def _source(compiled: CompiledTrigger) -> str:
    return f"{compiled.trigger.spec['sensor']}:{compiled.pipeline.name}/{compiled.name}"


def _road(compiled: CompiledTrigger) -> str:
    """Name the road by which its events come: one for all triggers that list what others tell of, too."""
    name = str(compiled.trigger.spec["sensor"])
    return name if find(name).covers is not Sensor.covers else _source(compiled)


def _place(compiled: CompiledTrigger) -> tuple[str, str, str]:
    return compiled.project, compiled.pipeline.name, compiled.name


def _names(compiled: CompiledTrigger) -> dict[str, str]:
    return {"project": compiled.project, "pipeline": compiled.pipeline.name, "trigger": compiled.name}


def _log(compiled: CompiledTrigger, tick: SensorTick) -> None:
    if tick.error is not None:
        logger.warning("sensor tick failed", **_names(compiled), error=tick.error)
    elif tick.new:
        logger.info("sensor ticked", **_names(compiled), new=tick.new, duplicate=tick.duplicate)
