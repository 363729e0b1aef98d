"""APScheduler as nothing but a timer: it calls functions at the moments of their timetables.

The jobs live in memory only. What is due, and what was done about it, is in the store; so nothing is lost
with this process, and a job that is called too often or too late does no harm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from service.clocks.timetable import Every, Timetable, TimetableTrigger

logger = structlog.get_logger(__name__)

_BEAT = "timer:beat"
_BEAT_POOL = "beat"  # of its own: a beat that waits for busy threads would look like a dead timer


@dataclass(frozen=True, slots=True)
class Job:
    """Something to call, by a name that changes with its definition."""

    name: str
    timetable: Timetable
    call: Callable[[], object]
    pool: str


class Timer:
    """Calls jobs until it is stopped, and replaces APScheduler's thread should that die."""

    def __init__(
        self, *, pools: Mapping[str, int], beat_seconds: float = 1.0, dead_after_seconds: float = 15.0
    ) -> None:
        self._pools = {**pools, _BEAT_POOL: 1}
        self._beat_seconds = beat_seconds
        self._dead_after_seconds = dead_after_seconds
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._scheduler: Any = None
        self._beat_at = time.monotonic()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="timer-watchdog", daemon=True)

    @property
    def job_names(self) -> frozenset[str]:
        return frozenset(self._jobs)

    @property
    def is_alive(self) -> bool:
        """False when APScheduler's thread has not called anything for too long."""
        return time.monotonic() - self._beat_at < self._dead_after_seconds

    def start(self) -> None:
        with self._lock:
            self._scheduler = self._begin()
        self._watchdog.start()

    def stop(self) -> None:
        """Call nothing new, and wait for what is being called."""
        self._stopping.set()
        if self._watchdog.is_alive():
            self._watchdog.join()
        with self._lock:
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=True)

    def reconcile(self, jobs: Mapping[str, Job]) -> None:
        """Make `jobs`, by name, all the jobs there are. A new one is called at once, then when it is due."""
        with self._lock:
            gone = self._jobs.keys() - jobs.keys()
            new = jobs.keys() - self._jobs.keys()
            self._jobs = dict(jobs)
            if self._scheduler is None:
                return
            for name in gone:
                self._remove(name)
            for name in new:
                self._add(self._scheduler, jobs[name])

    def call_again(self, name: str, delay: timedelta) -> None:
        """Call a job once more after `delay`, beside its timetable. The last wish of a job counts."""
        with self._lock:
            job = self._jobs.get(name)
            if self._scheduler is None or job is None:
                return
            self._scheduler.add_job(
                job.call,
                "date",
                run_date=datetime.now(UTC) + delay,
                id=_again(job.name),
                name=job.name,
                executor=job.pool,
                replace_existing=True,
            )

    def _begin(self) -> Any:
        scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={name: ThreadPoolExecutor(size) for name, size in self._pools.items()},
            # Lateness is judged by whoever is called: APScheduler must not drop a call for being late.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
            daemon=True,
        )
        scheduler.add_listener(_log_trouble, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        beats = Every(timedelta(seconds=self._beat_seconds))
        self._beat_at = time.monotonic()
        self._add(scheduler, Job(_BEAT, beats, self._beat, _BEAT_POOL))
        for job in self._jobs.values():
            self._add(scheduler, job)
        scheduler.start()
        return scheduler

    def _add(self, scheduler: Any, job: Job) -> None:
        scheduler.add_job(
            job.call,
            TimetableTrigger(job.timetable),
            id=job.name,
            name=job.name,
            executor=job.pool,
            next_run_time=datetime.now(UTC),
            replace_existing=True,
        )

    def _remove(self, name: str) -> None:
        for job_id in (name, _again(name)):
            try:
                self._scheduler.remove_job(job_id)
            except JobLookupError:
                continue  # it had no further moment, or no second call

    def _beat(self) -> None:
        self._beat_at = time.monotonic()

    def _watch(self) -> None:
        while not self._stopping.wait(self._beat_seconds):
            if not self.is_alive:
                self._replace()

    def _replace(self) -> None:
        """Begin anew. The jobs are called at once and find what they have missed in the store."""
        logger.error("the timer's thread is dead; it is replaced", silent_seconds=self._dead_after_seconds)
        with self._lock:
            dead, self._scheduler = self._scheduler, self._begin()
        try:
            dead.shutdown(wait=False)
        except Exception:
            logger.exception("could not shut the dead timer down")


def _again(name: str) -> str:
    return f"{name}:again"


def _log_trouble(event: Any) -> None:
    """Say what APScheduler would keep to itself. The jobs log their own failures; these are the timer's."""
    if event.code == EVENT_JOB_ERROR:
        logger.error("a timed call failed", job=event.job_id, error=repr(event.exception))
    elif event.code == EVENT_JOB_MISSED:
        logger.warning("a timed call was dropped", job=event.job_id)
    else:
        logger.warning("a timed call still runs when it is due again", job=event.job_id)
