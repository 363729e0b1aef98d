"""The engine's part in running: claim queued runs, give them to worker processes, keep the claims, rescue.

Three threads, each with one duty. `claim` sleeps until a wake-up, a freed slot or the fallback poll. `keep`
renews leases and gives back what a dead engine left. `watch` holds limits while runs are active. Claiming
ends when the engine drains; the others only once no run is left, or leases would lapse under running blocks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

import structlog

from pipelines.project import Project, content_hash
from service.errors import StoreError
from service.running.active_run import ActiveRun
from service.running.answers import MAX_DEPTH
from service.running.calls import Calls
from service.running.endings import Limits
from service.running.executors.messages import run_message
from service.runtime import Runtime, build_executor
from service.store import runs
from service.store.reports import LogCap
from service.store.session import Commit, GroupCommit, Transaction
from service.store.values import ClaimedRun, Pin, Report, Run
from service.store.wakeups import Subscription

logger = structlog.get_logger(__name__)

WATCH_SECONDS = 0.25
AGAIN_SECONDS = 0.5  # after a duty that failed
LAST_REPORTS_SECONDS = 2.0  # for what the end of the processes means for their runs


class Worker:
    """Executes runs of the projects this service serves.

    `only` restricts it to one run and those that its blocks start (`millrace run`).
    """

    def __init__(self, runtime: Runtime, engine_id: str, *, only: str | None = None) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._engine_id = engine_id
        self._family = None if only is None else {only}  # the only runs to claim
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
            # While the store is away reports wait. Whether they still count, the claim's number decides.
            patience_seconds=math.inf,
        )
        self._slots = 1 if only else settings.slots
        self._executor = build_executor(settings, slots=self._slots, on_idle=self._wake_up)
        self._calls = Calls(runtime, on_start=self._on_child, on_wait=self._wake_up)
        self._active: dict[str, ActiveRun] = {}
        self._active_changed = threading.Condition()
        self._wake = threading.Event()
        self._keep_now = threading.Event()
        self._news = threading.Event()  # at least one run is active: `watch` has work
        self._draining = threading.Event()  # nothing new is claimed
        self._drained_at = math.inf  # when the time is over that running blocks have to end
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._subscription: Subscription | None = None

    def start(self) -> None:
        self._reports.start()
        self._subscription = self._runtime.wakeups.subscribe(self._on_topic)
        self._executor.start()
        self._calls.start()
        for duty in (self._claim_loop, self._keep_loop, self._watch_loop):
            thread = threading.Thread(target=duty, name=duty.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)
        logger.info("worker started", engine=self._engine_id, slots=self._slots)

    def idle_count(self) -> int:
        """Return how many runs could begin now."""
        return self._executor.idle_count()

    @property
    def family(self) -> frozenset[str]:
        """Of a worker with `only`: this run and all that were started below it so far."""
        return frozenset(self._family or ())

    def drain(self) -> None:
        """Claim nothing more, and let runs rest once their running blocks have ended. Returns at once."""
        if not self._draining.is_set():
            self._drained_at = time.monotonic() + self._runtime.settings.drain_seconds
        self._draining.set()
        self._wake.set()
        for run in self._current():
            run.drain()
        self._calls.drain()

    def stop(self) -> None:
        """Drain; when the time for that is over, end what still runs and give it back."""
        self.drain()
        self._wait_until_idle(self._drained_at - time.monotonic())
        for run in self._current():
            run.give_back()
        self._executor.stop()
        self._wait_until_idle(LAST_REPORTS_SECONDS)
        self._stopping.set()
        self._keep_now.set()
        self._news.set()
        for thread in self._threads:
            thread.join(timeout=5)
        if self._subscription is not None:
            self._subscription.close()
        self._calls.stop()
        self._reports.close()

    def _wait_until_idle(self, seconds: float) -> None:
        with self._active_changed:
            self._active_changed.wait_for(lambda: not self._active, seconds)

    # Claiming

    def _claim_loop(self) -> None:
        while not self._draining.is_set():
            self._guarded(self._claim)
            self._wake.wait(self._runtime.settings.poll_seconds)
            self._wake.clear()

    def _claim(self) -> None:
        self._claim_for(self._executor.idle_count(), self._family)
        self._executor.lend(min(len(self._calls.lenders), self._slots * MAX_DEPTH))
        if awaited := self._calls.awaited:
            self._claim_for(self._executor.lent_idle_count(), awaited)

    def _claim_for(self, idle: int, only: Collection[str] | None) -> None:
        """Take what `idle` processes can begin with, among the runs in `only`."""
        if not idle:
            return
        lease_until = time.monotonic() + self._runtime.settings.lease_seconds
        wanted = None if only is None else sorted(only)
        claimed = self._runtime.database.write(Commit.CLAIM, partial(self._claim_in, idle, wanted))
        for one in claimed:
            self._guarded(partial(self._begin, one, lease_until))  # one that cannot begin lapses
        if len(claimed) == idle:
            self._wake.set()  # there may be more, and a slot may have become free meanwhile

    def _claim_in(self, idle: int, only: Sequence[str] | None, tx: Transaction) -> list[ClaimedRun]:
        return runs.claim(
            tx,
            engine_id=self._engine_id,
            slots=idle,
            lease_seconds=self._runtime.settings.lease_seconds,
            projects=[project.name for project in self._runtime.projects.all()],
            pin=self._pin,
            only=only,
        )

    def _pin(self, run: Run) -> Pin | str:
        """Return the run's pipeline as it is now, or a sentence that says why it cannot run."""
        project = self._runtime.projects.get(run.project)
        # A web process may see a new pipeline, and take an event for it, a moment before this engine does.
        pinned = project.pinned(run.pipeline) or Project.load(project.root).pinned(run.pipeline)
        if pinned is None:
            return (
                f"Project '{run.project}' has no pipeline '{run.pipeline}' that can run. "
                "`millrace check` says what is wrong with it; then retry the run."
            )
        pipeline, sources = pinned
        blocks = tuple((block.name, str(block.type)) for block in pipeline.blocks)
        return Pin(content_hash(sources), sources, blocks)

    def _begin(self, claimed: ClaimedRun, lease_until: float) -> None:
        root = self._runtime.projects.get(claimed.run.project).root
        run = ActiveRun(
            claimed,
            run_message(claimed, str(root)),
            lease_until=lease_until,
            reports=self._reports,
            clock=self._runtime.clock,
            limits=self._limits,
            on_end=self._on_run_end,
            on_call=self._calls.ask,
        )
        with self._active_changed:
            before = self._active.get(run.id)
            self._active[run.id] = run
        if before is not None:
            before.lose_claim()  # it lapsed, and was ours again before we noticed
        self._news.set()
        logger.info("run claimed", run_id=run.id, pipeline=claimed.run.pipeline, claim=run.claim)
        self._executor.assign(run)
        if self._draining.is_set():
            run.drain()

    # Keeping claims

    def _keep_loop(self) -> None:
        while not self._stopping.is_set():
            # First our own claims: what was late for a moment need not be taken from ourselves.
            is_done = self._guarded(self._renew) and self._guarded(self._rescue)
            self._keep_now.wait(self._runtime.settings.renew_seconds if is_done else 0)
            self._keep_now.clear()

    def _renew(self) -> None:
        # A stopped process loses its lease: it must not hold the run for ever.
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

    def _rescue(self) -> None:
        if self._runtime.database.write(Commit.RESCUE, runs.rescue):
            self._wake.set()

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
        self._calls.heard(topic)
        if topic == "queued":
            self._wake.set()
        elif topic.startswith("cancel:") and topic.removeprefix("cancel:") in self._active:
            self._keep_now.set()  # the renewal says whether it is so: a wake-up alone proves nothing

    def _wake_up(self) -> None:
        self._wake.set()

    def _on_child(self, run_id: str) -> None:
        if self._family is not None:
            self._family.add(run_id)
            self._wake.set()

    def _on_run_end(self, run: ActiveRun) -> None:
        with self._active_changed:
            if self._active.get(run.id) is run:
                del self._active[run.id]
                self._active_changed.notify_all()
        self._calls.ended(run)

    def _current(self) -> list[ActiveRun]:
        with self._active_changed:
            return list(self._active.values())

    def _guarded(self, duty: Callable[[], None]) -> bool:
        """Do a duty and return whether it could be done; the loop outlives whatever goes wrong in it."""
        try:
            duty()
        except StoreError as error:
            logger.warning("the store is not there, trying again", error=str(error))
        except Exception:
            logger.exception("the worker met an error and goes on")
        else:
            return True
        self._stopping.wait(AGAIN_SECONDS)
        return False
