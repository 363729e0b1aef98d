"""The clock of the engine: keeps a timed job for every schedule and sensor of the projects.

What is due and what became of it is in the store. The jobs only say *now*; a job that fails is called again,
later and later, until it succeeds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from pipelines.model import TriggerType
from service.clocks.ticking import Ticker
from service.clocks.timer import Job, Timer
from service.clocks.timetable import Every, Timetable, TimetableError, timetable_of
from service.dispatcher import Dispatcher
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.watching.polling import SENSOR_EVERY, is_shared
from service.watching.watcher import Watcher

logger = structlog.get_logger(__name__)

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=5)
LOOK_BACK = timedelta(days=366)
HOUSEKEEPING = Every(timedelta(seconds=5))
# Slow sensors must not delay a schedule, nor those that listen all the time any other.
POOLS = {"schedules": 4, "sensors": 8, "listeners": 64, "housekeeping": 1}

# What changes the moments of a trigger or the threads that call it, and so makes another job of it.
_TIME_KEYS = ("cron", "every", "timezone", "start", "sensor")


@dataclass(frozen=True, slots=True)
class _BackOff:
    """A job that failed is not called before `until`."""

    failures: int
    until: datetime


class Scheduler:
    """Reconciles the timer with the projects, and calls the ticker and the watcher."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, watcher: Watcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._watcher = watcher
        self._ticker = Ticker(runtime.database, dispatcher, runtime.clock)
        self._timer = Timer(pools=POOLS)
        self._lock = threading.Lock()  # reconciling and failing happen on several threads
        self._version: int | None = None
        self._counted_from: dict[str, datetime] = {}
        self._backing_off: dict[str, _BackOff] = {}

    @property
    def is_alive(self) -> bool:
        return self._timer.is_alive

    @property
    def job_names(self) -> frozenset[str]:
        return self._timer.job_names

    def start(self) -> None:
        """Begin. Every schedule is brought up to date at once, so that a restart catches up."""
        housekeeping = self._housekeeping()
        self._timer.reconcile({housekeeping.name: housekeeping})  # it reconciles, should this now fail
        self._timer.start()
        self.reconcile()

    def stop(self) -> None:
        """Tick nothing new, and return when running ticks have ended."""
        self._watcher.stop()
        self._timer.stop()

    def reconcile(self) -> None:
        """Make the timer's jobs those of the projects as they are now. Raises nothing."""
        version = self._runtime.projects.version
        try:
            jobs = {job.name: job for job in self._jobs()}
        except Exception:
            logger.exception("could not read the triggers; the jobs stay as they are")
            return
        with self._lock:
            if self._version is not None:
                # A trigger that appears or changes under a running engine has no ticks before that moment.
                appeared = jobs.keys() - self._timer.job_names
                self._counted_from |= dict.fromkeys(appeared, self._runtime.clock())
            self._version = version
            for name in self._timer.job_names - jobs.keys():
                self._counted_from.pop(name, None)
                self._backing_off.pop(name, None)
            self._timer.reconcile(jobs)

    def _jobs(self) -> Iterator[Job]:
        yield self._housekeeping()
        for project in self._runtime.projects.all():
            for compiled in self._dispatcher.triggers(project.name).values():
                if (job := self._job(compiled)) is not None:
                    yield job

    def _housekeeping(self) -> Job:
        return Job("housekeeping", HOUSEKEEPING, self._keep_house, "housekeeping")

    def _job(self, compiled: CompiledTrigger) -> Job | None:
        try:
            match compiled.trigger.type:
                case TriggerType.SCHEDULE:
                    return self._schedule_job(compiled)
                case TriggerType.SENSOR:
                    return self._sensor_job(compiled)
        except TimetableError as error:
            logger.error("trigger has no times", **_names(compiled), error=str(error))
        return None

    def _schedule_job(self, compiled: CompiledTrigger) -> Job:
        name = _job_name(compiled)
        call = partial(self._call, name, partial(self._tick_schedule, name))
        return Job(name, timetable_of(compiled.trigger.spec), call, "schedules")

    def _sensor_job(self, compiled: CompiledTrigger) -> Job:
        name = _job_name(compiled)
        timetable = timetable_of(compiled.trigger.spec, every=SENSOR_EVERY)
        call = partial(self._call, name, partial(self._tick_sensor, name, timetable))
        return Job(name, timetable, call, "listeners" if is_shared(compiled) else "sensors")

    def _call(self, name: str, tick: Callable[[CompiledTrigger], object]) -> None:
        """Tick the trigger as its files have it by now; after a failure, have it called again."""
        back_off = self._backing_off.get(name)
        if back_off is not None and self._runtime.clock() < back_off.until:
            return
        try:
            compiled = self._compiled(name)
            if compiled is not None:
                tick(compiled)
        except Exception as error:
            self._fail(name, error)
        else:
            self._backing_off.pop(name, None)

    def _tick_schedule(self, name: str, compiled: CompiledTrigger) -> None:
        self._ticker.bring_up_to_date(compiled, counted_from=self._counted_from.get(name))

    def _tick_sensor(self, name: str, timetable: Timetable, compiled: CompiledTrigger) -> None:
        now = self._runtime.clock()
        # The due moment was claimed by the try that failed; the next one has a moment of its own.
        is_listener = is_shared(compiled)
        at_once = name in self._backing_off or is_listener
        result = self._watcher.tick(compiled, now if at_once else _last_due(timetable, now))
        if is_listener and result is not None:
            self._timer.call_again(name, timedelta(0))  # it listened for its whole step; it listens on

    def _fail(self, name: str, error: Exception) -> None:
        before = self._backing_off.get(name)
        failures = before.failures + 1 if before else 1
        delay = min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY)
        self._backing_off[name] = _BackOff(failures, self._runtime.clock() + delay)
        logger.warning("tick failed", job=name, error=str(error), again_in_seconds=delay.total_seconds())
        self._timer.call_again(name, delay)

    def _compiled(self, name: str) -> CompiledTrigger | None:
        project, pipeline, trigger, _ = json.loads(name)
        return self._dispatcher.triggers(project).get((pipeline, trigger))

    def _keep_house(self) -> None:
        """Do what a lost wake-up or a changed file may have left undone."""
        if self._runtime.projects.version != self._version:
            self.reconcile()
        self._dispatcher.release_left_over()


def _last_due(timetable: Timetable, now: datetime) -> datetime:
    return next(timetable.due(now - LOOK_BACK, now), now)


def _job_name(compiled: CompiledTrigger) -> str:
    """Name the job by its trigger and by what decides its moments, so that a change makes another job."""
    times: Mapping[str, str] = {
        key: str(compiled.trigger.spec[key]) for key in _TIME_KEYS if key in compiled.trigger.spec
    }
    return json.dumps([compiled.project, compiled.pipeline.name, compiled.name, times], sort_keys=True)


def _names(compiled: CompiledTrigger) -> dict[str, str]:
    return {"project": compiled.project, "pipeline": compiled.pipeline.name, "trigger": compiled.name}
