"""The clock of the engine: keeps a timed job for every schedule and sensor of the projects.

What is due and what became of it is in the store. The jobs only say *now*; a job that fails is called again,
later and later, until it succeeds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog

from pipelines.model import TriggerType
from service.clocks import schedules
from service.clocks.backing_off import BackingOff
from service.clocks.ticking import Ticker
from service.clocks.timer import Job, Timer
from service.clocks.timetable import Every, Timetable, TimetableError, timetable_of
from service.dispatcher import Dispatcher
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime
from service.watching.polling import SENSOR_EVERY, is_shared
from service.watching.watcher import Watcher

logger = structlog.get_logger(__name__)

LOOK_BACK = timedelta(days=366)
SHORTEST_LISTENING = timedelta(seconds=1)  # a listener listens on at once, but does not spin
HOUSEKEEPING = Every(timedelta(seconds=5))
# Slow sensors must not delay a schedule, nor those that listen all the time any other.
POOLS = {schedules.POOL: 1, "sensors": 8, "listeners": 64, "housekeeping": 1}

# What changes the moments of a trigger or the threads that call it, and so makes another job of it.
_TIME_KEYS = ("cron", "every", "timezone", "start", "end", "sensor")


class Scheduler:
    """Reconciles the timer with the projects, and calls the ticker and the watcher."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, watcher: Watcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._watcher = watcher
        ticker = Ticker(runtime.database, dispatcher, runtime.clock)
        self._schedules = schedules.Schedules(ticker, runtime.clock, self._compiled)
        self._timer = Timer(pools=POOLS)
        self._lock = threading.Lock()  # reconciling happens on several threads
        self._version: int | None = None
        self._backing_off = BackingOff(runtime.clock)  # of sensors; the schedules have their own

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
        self._schedules.start()
        self.reconcile()

    def stop(self) -> None:
        """Tick nothing new, and return when running ticks have ended."""
        self._watcher.stop()
        self._timer.stop()
        self._schedules.stop()

    def reconcile(self) -> None:
        """Make the timer's jobs those of the projects as they are now. Raises nothing."""
        version = self._runtime.projects.version
        try:
            triggers = list(self._triggers())
        except Exception:
            logger.exception("could not read the triggers; the jobs stay as they are")
            return
        with self._lock:
            self._version = version
            self._schedules.reconcile(dict(_timetables(triggers)))
            jobs = {job.name: job for job in (self._housekeeping(), *self._schedules.jobs())}
            jobs |= {job.name: job for job in map(self._sensor_job, triggers) if job is not None}
            for name in self._timer.job_names - jobs.keys():
                self._backing_off.forget(name)
            self._timer.reconcile(jobs)

    def _triggers(self) -> Iterator[CompiledTrigger]:
        for project in self._runtime.projects.all():
            yield from self._dispatcher.triggers(project.name).values()

    def _housekeeping(self) -> Job:
        return Job("housekeeping", HOUSEKEEPING, self._keep_house, "housekeeping")

    def _sensor_job(self, compiled: CompiledTrigger) -> Job | None:
        if compiled.trigger.type is not TriggerType.SENSOR:
            return None
        timetable = _timetable(compiled, every=SENSOR_EVERY)
        if timetable is None:
            return None
        name = _job_name(compiled)
        call = partial(self._call, name, partial(self._tick_sensor, name, timetable))
        return Job(name, timetable, call, "listeners" if is_shared(compiled) else "sensors")

    def _call(self, name: str, tick: Callable[[CompiledTrigger], object]) -> None:
        """Tick the trigger as its files have it by now; after a failure, have it called again."""
        if self._backing_off.is_resting(name):
            return
        try:
            compiled = self._compiled(name)
            if compiled is not None:
                tick(compiled)
        except Exception as error:
            self._timer.call_again(name, self._backing_off.fail(name, error))
        else:
            self._backing_off.forget(name)

    def _tick_sensor(self, name: str, timetable: Timetable, compiled: CompiledTrigger) -> None:
        now = self._runtime.clock()
        # The due moment was claimed by the try that failed; the next one has a moment of its own.
        is_listener = is_shared(compiled)
        at_once = name in self._backing_off or is_listener
        result = self._watcher.tick(compiled, now if at_once else _last_due(timetable, now))
        if is_listener and result is not None:
            took = self._runtime.clock() - now
            self._timer.call_again(name, max(timedelta(0), SHORTEST_LISTENING - took))

    def _compiled(self, name: str) -> CompiledTrigger | None:
        project, pipeline, trigger, _ = json.loads(name)
        return self._dispatcher.triggers(project).get((pipeline, trigger))

    def _keep_house(self) -> None:
        """Do what a lost wake-up or a changed file may have left undone."""
        if self._runtime.projects.version != self._version:
            self.reconcile()
        self._dispatcher.release_left_over()


def _timetables(triggers: Iterable[CompiledTrigger]) -> Iterator[tuple[str, Timetable]]:
    """Yield the schedules and expectations: their names and when they are due."""
    for compiled in triggers:
        if compiled.trigger.type in (TriggerType.SCHEDULE, TriggerType.EXPECTATION):
            timetable = _timetable(compiled)
            if timetable is not None:
                yield _job_name(compiled), timetable


def _timetable(compiled: CompiledTrigger, *, every: str | None = None) -> Timetable | None:
    try:
        return timetable_of(compiled.trigger.spec, every=every)
    except TimetableError as error:
        logger.error("trigger has no times", **_names(compiled), error=str(error))
        return None


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
