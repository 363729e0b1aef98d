"""The engine's part in running: claim queued runs, give them to worker processes, keep the claims, rescue.

Three threads, each with one duty. `claim` sleeps until a wake-up, a freed slot or the fallback poll. `keep`
renews leases and gives back what a dead engine left. `watch` holds block limits while runs are active.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from pipelines.project import content_hash
from service.active_run import ActiveRun, Limits
from service.errors import StoreUnavailable
from service.executors.process import ProcessExecutor
from service.runtime import Runtime
from service.store import runs
from service.store.reports import LogCap
from service.store.session import Commit, GroupCommit, Transaction
from service.store.values import ClaimedRun, Pin, Report, Run

logger = structlog.get_logger(__name__)

WATCH_SECONDS = 0.25


class Worker:
    """Executes runs of the projects this service serves. `only` restricts it to one run (`millrace run`)."""

    def __init__(self, runtime: Runtime, engine_id: str, *, only: str | None = None) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._engine_id = engine_id
        self._only = only
        self._limits = Limits(
            memory_mb=settings.block_memory_mb,
            drain_seconds=settings.drain_seconds,
            lease_seconds=settings.lease_seconds,
        )
        self._reports: GroupCommit[Report, bool] = GroupCommit(
            runtime.database,
            Commit.REPORT,
            partial(runs.apply, log_cap=LogCap(lines=settings.run_log_lines)),
            max_queue=100_000,
        )
        self._executor = ProcessExecutor(1 if only else settings.slots, hello_of(runtime), self._on_idle)
        self._active: dict[str, ActiveRun] = {}
        self._active_lock = threading.Lock()
        self._wake = threading.Event()
        self._keep_now = threading.Event()
        self._news = threading.Event()  # at least one run is active: `watch` has work
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._subscription: AbstractContextManager[Any] | None = None

    def start(self) -> None:
        self._reports.start()
        self._subscription = self._runtime.wakeups.subscribe(self._on_topic)
        self._executor.start()
        for duty in (self._claim_loop, self._keep_loop, self._watch_loop):
            thread = threading.Thread(target=duty, name=duty.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)
        logger.info("worker started", engine=self._engine_id, slots=self._runtime.settings.slots)

    def stop(self) -> None:
        """Let running blocks end within the drain bound, give their runs back, and end the processes."""
        self._stopping.set()
        self._wake.set()
        self._keep_now.set()
        self._news.set()
        for run in self._current():
            run.drain()
        deadline = time.monotonic() + self._runtime.settings.drain_seconds
        while self._current() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._executor.stop()
        for thread in self._threads:
            thread.join(timeout=5)
        if self._subscription is not None:
            self._subscription.__exit__(None, None, None)
        self._reports.close()

    # Claiming

    def _claim_loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._runtime.settings.poll_seconds)
            self._wake.clear()
            if self._stopping.is_set():
                return
            self._guarded(self._claim)

    def _claim(self) -> None:
        idle = self._executor.idle_count()
        if not idle:
            return
        lease_until = time.monotonic() + self._runtime.settings.lease_seconds
        claimed = self._runtime.database.write(Commit.CLAIM, partial(self._claim_in, idle))
        for one in claimed:
            self._begin(one, lease_until)
        if len(claimed) == idle:
            self._wake.set()  # there may be more, and a slot may have become free meanwhile

    def _claim_in(self, idle: int, tx: Transaction) -> list[ClaimedRun]:
        return runs.claim(
            tx,
            engine_id=self._engine_id,
            slots=idle,
            lease_seconds=self._runtime.settings.lease_seconds,
            projects=[project.name for project in self._runtime.projects.all()],
            pin=self._pin,
            only=self._only,
        )

    def _pin(self, run: Run) -> Pin | str:
        """Return the run's pipeline as it is now, or a sentence that says why it cannot run."""
        project = self._runtime.projects.get(run.project)
        pipeline = project.pipelines.get(run.pipeline)
        if pipeline is None:
            return (
                f"Project '{run.project}' has no pipeline '{run.pipeline}' that can run. "
                "`millrace check` says what is wrong with it; then retry the run."
            )
        sources = project.sources_of(run.pipeline)
        blocks = tuple((block.name, str(block.type)) for block in pipeline.blocks)
        return Pin(content_hash(sources), sources, blocks)

    def _begin(self, claimed: ClaimedRun, lease_until: float) -> None:
        root = self._runtime.projects.get(claimed.run.project).root
        run = ActiveRun(
            claimed,
            run_message(claimed, str(root), lease_until),
            reports=self._reports,
            clock=self._runtime.clock,
            limits=self._limits,
            on_end=self._on_run_end,
        )
        with self._active_lock:
            self._active[run.id] = run
        self._news.set()
        logger.info("run claimed", run_id=run.id, pipeline=claimed.run.pipeline, claim=run.claim)
        self._executor.assign(run)

    # Keeping claims

    def _keep_loop(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._keep)
            self._keep_now.wait(self._runtime.settings.renew_seconds)
            self._keep_now.clear()

    def _keep(self) -> None:
        if self._runtime.database.write(Commit.RESCUE, runs.rescue):
            self._wake.set()
        # A silent process loses its lease: it may be stopped, and must not hold the run for ever.
        alive = [run for run in self._current() if not run.is_silent]
        if not alive:
            return
        began = time.monotonic()
        lease = self._runtime.settings.lease_seconds
        claims = [(run.id, run.claim) for run in alive]
        renewed = self._runtime.database.write(
            Commit.RENEW,
            lambda tx: runs.renew(tx, engine_id=self._engine_id, claims=claims, lease_seconds=lease),
        )
        for run in alive:
            if run.id in renewed.cancel:
                run.cancel()
            elif run.id in renewed.held:
                run.renewed(began + lease)
            else:
                run.lose_claim()

    def _watch_loop(self) -> None:
        while not self._stopping.is_set():
            self._news.wait()
            current = self._current()
            for run in current:
                self._guarded(run.check)
            if not current:
                self._news.clear()
                if self._current():
                    self._news.set()
                continue
            self._stopping.wait(WATCH_SECONDS)

    # What others tell

    def _on_topic(self, topic: str) -> None:
        if topic == "queued":
            self._wake.set()
        elif topic.startswith("cancel:") and topic.removeprefix("cancel:") in self._active:
            self._keep_now.set()  # the renewal says whether it is so: a wake-up alone proves nothing

    def _on_idle(self) -> None:
        self._wake.set()

    def _on_run_end(self, run: ActiveRun) -> None:
        with self._active_lock:
            if self._active.get(run.id) is run:
                del self._active[run.id]

    def _current(self) -> list[ActiveRun]:
        with self._active_lock:
            return list(self._active.values())

    def _guarded(self, duty: Any) -> None:
        """Run a duty; the loop outlives whatever goes wrong in it."""
        try:
            duty()
        except StoreUnavailable as error:
            logger.warning("the store is not there, trying again", error=str(error))
            self._stopping.wait(0.5)
        except Exception:
            logger.exception("the worker met an error and goes on")
            self._stopping.wait(0.5)


def hello_of(runtime: Runtime) -> Mapping[str, Any]:
    """Return what every worker process is told first."""
    settings = runtime.settings
    return {
        "checkpoints": str(settings.checkpoints),
        "secrets": str(settings.home / "secrets"),
        "lease_seconds": settings.lease_seconds,
        "runs_per_process": settings.runs_per_process,
        "memory_mb": settings.block_memory_mb,
        "block_log_bytes": settings.block_log_bytes,
        "log_line_bytes": settings.log_line_bytes,
        "crash_at": settings.crash_at,
    }


def run_message(claimed: ClaimedRun, root: str, lease_until: float) -> dict[str, Any]:
    """Return the message that gives a run to a worker process. Times are ISO text."""
    run = claimed.run
    return {
        "type": "run",
        "lease_until": lease_until,
        "run_id": run.id,
        "project": run.project,
        "root": root,
        "pipeline": run.pipeline,
        "pin": claimed.pin.hash,
        "sources": dict(claimed.pin.sources),
        "variables": dict(run.variables),
        "trigger": run.trigger,
        "event": claimed.event,
        "execution_date": _text(run.execution_date),
        "interval_start": _text(run.interval_start),
        "interval_end": _text(run.interval_end),
        "timezone": run.timezone,
        "attempt": run.attempt,
        "selection": list(run.selection),
        "progress": {
            block.name: {
                "state": str(block.state),
                "attempt": block.attempt,
                "deaths": block.deaths,
                "checkpoint": block.checkpoint,
                "volatile": block.volatile,
                "retry_at": _text(block.retry_at),
            }
            for block in run.blocks
        },
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
