"""One claimed run on one worker process: what it reports, and how it is ended when it must not go on.

Block code cannot be stopped from inside its process, so limits are held from here: a block over its
time or memory, a run over its time, a cancelled run, a lost claim. The process group is killed; the rows are
then written as if each block had ended by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

import structlog

from pipelines.runspec import RunOptions
from service.clock import Clock
from service.errors import Closed, QueueFull
from service.running.endings import (
    Cause,
    Ending,
    Limits,
    RunningBlock,
    describe_exit,
    overtime_of_block,
    overtime_of_run,
    overweight,
    silence,
)
from service.running.executors.base import Message, Process
from service.running.executors.messages import log_line_of, moment_of
from service.running.verdicts import Verdicts
from service.store.session import GroupCommit
from service.store.values import (
    BlockEnded,
    BlockExpanded,
    BlockStarted,
    BlockState,
    ClaimedRun,
    LogLine,
    LogLines,
    Report,
    RunEnded,
    RunState,
)

logger = structlog.get_logger(__name__)


class ActiveRun:
    """Turns a worker process's messages into reports to the store, under the run's claim.

    Many threads meet here: the process's reader, the writer of reports, and the worker's duties. One lock
    guards the state; whatever is called while it is held must not wait for any of them.
    """

    def __init__(
        self,
        claimed: ClaimedRun,
        message: Message,
        *,
        lease_until: float,
        reports: GroupCommit[Report, bool],
        clock: Clock,
        limits: Limits,
        on_end: Callable[[ActiveRun], None],
        on_call: Callable[[ActiveRun, Message], None],
    ) -> None:
        """`lease_until`: on the monotonic clock, as all moments here that are floats.

        `on_call` hears what a block asks of the service; it must not wait.
        """
        self._run = claimed.run
        self._message = message
        self._lease_until = lease_until
        self._deaths = {block.name: block.deaths for block in claimed.run.blocks}
        self._reports = reports
        self._clock = clock
        self._limits = limits
        self._on_end = on_end
        self._on_call = on_call
        self._verdicts = Verdicts(self.id, self.claim, clock)
        self._lock = threading.RLock()
        self._process: Process | None = None
        self._running: dict[str, RunningBlock] = {}
        self._held: list[Report] = []
        self._options = RunOptions(**claimed.run.options)
        self._timeout_seconds = self._options.timeout_seconds  # else the pipeline's, once it is known
        self._ending: Ending | None = None
        self._ended = False

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def claim(self) -> int:
        return self._run.claim

    @property
    def project(self) -> str:
        return self._run.project

    @property
    def message(self) -> Message:
        """What gives the run to a worker process. The lease may have been renewed since the claim."""
        return {**self._message, "lease_until": self._lease_until}

    def attach(self, process: Process) -> bool:
        with self._lock:
            if not self._ended:
                self._process = process
            return not self._ended

    # What the process says

    def on_message(self, message: Message) -> None:
        with self._lock:
            if self._ended:
                return
            match message["type"]:
                case "began":
                    self._timeout_seconds = self._timeout_seconds or message["timeout_seconds"]
                case "started":
                    self._block_started(message)
                case "expanded":
                    self._block_expanded(message)
                case "ended":
                    self._block_ended(message)
                case "logs":
                    self._report_later(
                        LogLines(self.id, self.claim, tuple(log_line_of(line) for line in message["lines"]))
                    )
                case "call":
                    self._on_call(self, message)
                case "result":
                    self._result(message)
                case unknown:
                    logger.warning("unknown message from a worker process", type=unknown, run_id=self.id)

    def on_death(self, exit_code: int) -> None:
        """Write what the end of the process means for its blocks and give the run back."""
        with self._lock:
            if self._ended:
                return
            if self._ending is not None:
                self._end_for(self._ending)
            elif time.monotonic() > self._lease_until:
                # It ended itself, as it has to. No block is to blame when the store was away for so long.
                self._end_for(Ending(Cause.GIVEN_BACK, kill_at=0))
            else:
                self._end_dead(describe_exit(exit_code))

    # What the engine decides

    def renewed(self, until: float) -> None:
        """Note, and tell the process, how long the lease lasts."""
        with self._lock:
            self._lease_until = until
            self._send({"type": "lease", "until": until})

    def cancel(self) -> None:
        self._kill_for(Cause.CANCEL)

    def lose_claim(self) -> None:
        self._kill_for(Cause.CLAIM_LOST)

    def give_back(self) -> None:
        """End the run here, so that another engine goes on with it; its blocks are not to blame."""
        self._kill_for(Cause.GIVEN_BACK)

    def answer(self, message: Message) -> None:
        """Tell the process what became of a call; of a run that has ended nobody waits for it."""
        with self._lock:
            self._send({"type": "answer", **message})

    @property
    def running_count(self) -> int:
        """How many of its blocks run."""
        return len(self._running)

    @property
    def is_cancelled(self) -> bool:
        """Its end was asked for."""
        return self._ending is not None and self._ending.cause is Cause.CANCEL

    def drain(self) -> None:
        """Ask the process to start nothing new; its result then gives the run back."""
        with self._lock:
            self._send({"type": "drain"})

    @property
    def is_silent(self) -> bool:
        """The process is stopped and was not heard of for a whole lease.

        Silence alone proves nothing: a block may hold the interpreter's lock for minutes.
        """
        process = self._process
        if process is None or time.monotonic() - process.last_heard <= self._limits.lease_seconds:
            return False
        return process.is_stopped

    def check(self) -> None:
        """Hold the limits. Called a few times a second."""
        with self._lock:
            if self._ended or self._process is None:
                return
            self._report_held()
            now = time.monotonic()
            if self._ending is None:
                self._ending = self._reached_limit(self._process, now)
                if self._ending is not None:
                    self._send({"type": "drain"})
            if self._ending is not None and self._ending.is_kill_due(self._running, now):
                self._process.kill()

    def _reached_limit(self, process: Process, now: float) -> Ending | None:
        if self.is_silent:
            return silence(self._limits, now)
        if (ending := self._overtime_of_run(now)) is not None or not self._running:
            return ending
        return overtime_of_block(self._running, self._limits, now) or overweight(
            self._running, self._limits, process.memory_bytes(), now
        )

    def _overtime_of_run(self, now: float) -> Ending | None:
        if self._timeout_seconds is None or self._run.started_at is None:
            return None
        elapsed = (self._clock() - self._run.started_at).total_seconds()
        deadline = now - elapsed + self._timeout_seconds
        return overtime_of_run(deadline, self._timeout_seconds, self._run.pipeline, now)

    # Reports

    def _block_started(self, message: Message) -> None:
        name = message["block"]
        self._running[name] = RunningBlock(
            attempt=message["attempt"],
            deaths=self._deaths.get(name, 0),
            started=time.monotonic(),
            timeout_seconds=message["timeout_seconds"],
            memory_mb=message["memory_mb"],
            retry_seconds=message["retry_seconds"],
        )
        at = datetime.fromisoformat(message["at"])
        self._report_later(BlockStarted(self.id, self.claim, name, message["attempt"], at))

    def _block_expanded(self, message: Message) -> None:
        at = datetime.fromisoformat(message["at"])
        children = tuple((name, number) for name, number in message["children"])
        self._report_later(
            BlockExpanded(self.id, self.claim, message["block"], message["attempt"], at, children)
        )

    def _block_ended(self, message: Message) -> None:
        name = message["block"]
        self._running.pop(name, None)
        if self._ending is not None and self._ending.is_over_with(name, time.monotonic()):
            self._ending = None
        report = BlockEnded(
            self.id,
            self.claim,
            name,
            BlockState(message["state"]),
            attempt=message["attempt"],
            at=datetime.fromisoformat(message["at"]),
            deaths=self._deaths.get(name, 0),
            rows=message["rows"],
            error=message["error"],
            retry_at=moment_of(message["retry_at"]),
            checkpoint=message["checkpoint"],
            volatile=message["volatile"],
            reason=message["reason"],
        )
        self._report(report).add_done_callback(lambda future: self._recorded(name, future))

    def _recorded(self, block: str, future: Future[bool]) -> None:
        if future.exception() is not None:
            logger.error(
                "a report could not be stored", run_id=self.id, block=block, error=str(future.exception())
            )
            self.lose_claim()
        elif future.result():
            self._send({"type": "recorded", "block": block})
        else:
            self.lose_claim()

    def _result(self, message: Message) -> None:
        state = RunState.QUEUED if message["state"] == "stopped" else RunState(message["state"])
        self._end_run(state, error=message["error"], available_at=moment_of(message["retry_at"]))

    def _end_run(
        self, state: RunState, *, error: str | None = None, available_at: datetime | None = None
    ) -> None:
        report = RunEnded(
            self.id, self.claim, state, at=self._clock(), error=error, available_at=available_at
        )
        self._report(report)
        logger.info("run left the worker", run_id=self.id, state=str(state), error=error)
        self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._process = None  # it may have another run soon, and that one must not hear of this one's lease
        self._on_end(self)

    def _report_later(self, report: Report) -> None:
        """Report what nobody waits for with the next report, or the next check: it needs no commit."""
        self._held.append(report)

    def _report_held(self) -> None:
        held, self._held = self._held, []
        for report in held:
            self._submit(report)

    def _report(self, report: Report) -> Future[bool]:
        self._report_held()
        return self._submit(report)

    def _submit(self, report: Report) -> Future[bool]:
        try:
            return self._reports.submit(report)
        except (QueueFull, Closed) as error:
            refused: Future[bool] = Future()
            refused.set_exception(error)
            return refused

    def _send(self, message: Message) -> None:
        process = self._process
        if process is not None:
            process.send(message)

    # Ends that the process cannot report itself

    def _kill_for(self, cause: Cause) -> None:
        with self._lock:
            if self._ended:
                return
            self._ending = Ending(cause, kill_at=time.monotonic())
            if self._process is not None:
                self._process.kill()
            else:
                self._end_for(self._ending)  # no process has it yet, so none will tell of its end

    def _end_for(self, ending: Ending) -> None:
        match ending.cause:
            case Cause.CLAIM_LOST:
                self._finish()
            case Cause.CANCEL:
                self._end_running(self._verdicts.cancelled)
                self._end_run(RunState.CANCELLED, error="cancelled on request")
            case Cause.RUN_LIMIT:
                self._end_running(
                    lambda name, block: self._verdicts.failed_for_good(name, block, ending.error)
                )
                self._end_run(RunState(self._options.timeout_status), error=ending.error)
            case Cause.BLOCK_LIMIT:
                self._end_running(lambda name, block: self._verdicts.over_limit(name, block, ending))
                self._end_run(RunState.QUEUED)
            case Cause.GIVEN_BACK:
                self._end_running(self._verdicts.interrupted)
                self._end_run(RunState.QUEUED)
            case Cause.SILENCE:
                self._end_dead(ending.error or "")

    def _end_dead(self, how: str) -> None:
        self._end_running(lambda name, block: self._died(name, block, how))
        self._end_run(RunState.QUEUED)

    def _end_running(self, ended: Callable[[str, RunningBlock], BlockEnded]) -> None:
        for name, block in self._running.items():
            self._report(ended(name, block))
        self._running.clear()

    def _died(self, name: str, block: RunningBlock, how: str) -> BlockEnded:
        ended = self._verdicts.died(name, block, how)
        if ended.state is BlockState.QUEUED:
            logger.warning("a worker process died", run_id=self.id, block=name, deaths=ended.deaths, how=how)
            text = f"The worker process died under this block ({how}); the block runs again."
            line = LogLine(0, self._clock(), "warning", text, block=name, attempt=block.attempt)
            self._report_later(LogLines(self.id, self.claim, (line,)))
        return ended
