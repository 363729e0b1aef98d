"""One claimed run on one worker process: what it reports, and how it is ended when it must not go on.

Block code cannot be stopped from inside its process, so limits are held from here: a block over its
time or memory, a cancelled run, a lost claim. The process group is killed; the rows are then written as if
each block had ended by itself.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

import structlog

from service.clock import Clock
from service.executors.process import Message, WorkerProcess
from service.store.session import GroupCommit
from service.store.values import (
    BlockEnded,
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

DEATH_LIMIT = 5  # a block whose worker died this often fails (DESIGN 6)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a worker process, in the units their names say."""

    memory_mb: int
    drain_seconds: float  # how long siblings of a block over its limit may go on
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class RunningBlock:
    attempt: int
    deaths: int
    started: float  # monotonic
    timeout_seconds: float | None
    memory_mb: int | None
    retry_seconds: float | None  # the wait before the next try, None when none is left


class Cause(Enum):
    LIMIT = auto()  # a block is over its time or memory
    CANCEL = auto()  # somebody asked for it
    CLAIM_LOST = auto()  # the run is another engine's now
    SILENCE = auto()  # the process has not been heard of for a whole lease


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the process will be killed, and when at the latest."""

    cause: Cause
    kill_at: float  # monotonic
    culprit: str | None = None
    error: str | None = None


class ActiveRun:
    """Turns a worker process's messages into reports to the store, under the run's claim."""

    def __init__(
        self,
        claimed: ClaimedRun,
        message: Message,
        *,
        reports: GroupCommit[Report, bool],
        clock: Clock,
        limits: Limits,
        on_end: Callable[[ActiveRun], None],
    ) -> None:
        self._run = claimed.run
        self._deaths = {block.name: block.deaths for block in claimed.run.blocks}
        self._reports = reports
        self._clock = clock
        self._limits = limits
        self._on_end = on_end
        self._lock = threading.RLock()
        self._process: WorkerProcess | None = None
        self._running: dict[str, RunningBlock] = {}
        self._ending: Ending | None = None
        self._ended = False
        self.message = message

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def claim(self) -> int:
        return self._run.claim

    @property
    def project(self) -> str:
        return self._run.project

    def attach(self, process: WorkerProcess) -> None:
        self._process = process

    # What the process says

    def on_message(self, message: Message) -> None:
        with self._lock:
            if self._ended:
                return
            match message["type"]:
                case "started":
                    self._block_started(message)
                case "ended":
                    self._block_ended(message)
                case "logs":
                    self._report(
                        LogLines(self.id, self.claim, tuple(_log_line(line) for line in message["lines"]))
                    )
                case "result":
                    self._result(message)
                case unknown:
                    logger.warning("unknown message from a worker process", type=unknown, run_id=self.id)

    def on_death(self, exit_code: int) -> None:
        """Write what the end of the process means for its blocks and give the run back."""
        with self._lock:
            if self._ended:
                return
            cause = self._ending.cause if self._ending else None
            match cause:
                case Cause.CLAIM_LOST:
                    self._finish()
                case Cause.CANCEL:
                    self._end_running(lambda name, block: self._cancelled(name, block))
                    self._end_run(RunState.CANCELLED, error="cancelled on request")
                case Cause.LIMIT:
                    self._end_running(self._over_limit)
                    self._end_run(RunState.QUEUED)
                case _:
                    self._end_running(lambda name, block: self._died(name, block, exit_code))
                    self._end_run(RunState.QUEUED)

    # What the engine decides

    def renewed(self, until_monotonic: float) -> None:
        """Tell the process how long its lease lasts on this machine's monotonic clock."""
        self._send({"type": "lease", "until": until_monotonic})

    def cancel(self) -> None:
        self._kill_for(Cause.CANCEL)

    def lose_claim(self) -> None:
        self._kill_for(Cause.CLAIM_LOST)

    def drain(self) -> None:
        """Ask the process to start nothing new; its result then gives the run back."""
        self._send({"type": "drain"})

    @property
    def is_silent(self) -> bool:
        """The process was not heard of for a whole lease: stopped, or a block holds the GIL."""
        process = self._process
        return process is not None and time.monotonic() - process.last_heard > self._limits.lease_seconds

    def check(self) -> None:
        """Hold the limits. Called a few times a second."""
        with self._lock:
            if self._ended or self._process is None:
                return
            now = time.monotonic()
            if self._ending is None:
                self._ending = self._silence(now) or self._overtime(now) or self._overweight(now)
                if self._ending is not None:
                    self._send({"type": "drain"})
            if self._ending is not None and self._is_kill_due(self._ending, now):
                self._process.kill()

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
        self._report(BlockStarted(self.id, self.claim, name, message["attempt"], at))

    def _block_ended(self, message: Message) -> None:
        name = message["block"]
        self._running.pop(name, None)
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
            retry_at=_moment(message["retry_at"]),
            checkpoint=message["checkpoint"],
            volatile=message["volatile"],
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
        self._end_run(state, error=message["error"], available_at=_moment(message["retry_at"]))

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
        self._on_end(self)

    def _report(self, report: Report) -> Future[bool]:
        return self._reports.submit(report)

    def _send(self, message: Message) -> None:
        if self._process is not None:
            self._process.send(message)

    # Ends that the process cannot report itself

    def _kill_for(self, cause: Cause) -> None:
        with self._lock:
            if self._ended:
                return
            self._ending = Ending(cause, kill_at=time.monotonic())
            if self._process is not None:
                self._process.kill()

    def _end_running(self, ended: Callable[[str, RunningBlock], BlockEnded]) -> None:
        for name, block in self._running.items():
            self._report(ended(name, block))
        self._running.clear()

    def _cancelled(self, name: str, block: RunningBlock) -> BlockEnded:
        return self._ended_block(name, BlockState.CANCELLED, block.attempt, block.deaths)

    def _over_limit(self, name: str, block: RunningBlock) -> BlockEnded:
        assert self._ending is not None
        if name != self._ending.culprit:  # interrupted siblings spend no retry
            return self._ended_block(name, BlockState.QUEUED, block.attempt - 1, block.deaths)
        return self._failed(name, block, self._ending.error)

    def _failed(self, name: str, block: RunningBlock, error: str | None) -> BlockEnded:
        if block.retry_seconds is None:
            return self._ended_block(name, BlockState.FAILED, block.attempt, block.deaths, error=error)
        retry_at = self._clock() + timedelta(seconds=block.retry_seconds)
        return self._ended_block(
            name, BlockState.WAITING, block.attempt, block.deaths, error=error, retry_at=retry_at
        )

    def _died(self, name: str, block: RunningBlock, exit_code: int) -> BlockEnded:
        deaths = block.deaths + 1
        how = _describe_exit(exit_code)
        if self._ending is not None and self._ending.error is not None:
            how = self._ending.error
        if deaths >= DEATH_LIMIT:
            error = (
                f"The worker process died {deaths} times while block '{name}' ran; the last time {how}. "
                "Look for os._exit, a crash in native code, or the system's out-of-memory killer."
            )
            return self._ended_block(name, BlockState.FAILED, block.attempt, deaths, error=error)
        logger.warning("a worker process died", run_id=self.id, block=name, deaths=deaths, how=how)
        return self._ended_block(name, BlockState.QUEUED, block.attempt - 1, deaths)

    def _ended_block(
        self,
        name: str,
        state: BlockState,
        attempt: int,
        deaths: int,
        *,
        error: str | None = None,
        retry_at: datetime | None = None,
    ) -> BlockEnded:
        return BlockEnded(
            self.id,
            self.claim,
            name,
            state,
            attempt,
            self._clock(),
            deaths=deaths,
            error=error,
            retry_at=retry_at,
        )

    # Limits

    def _silence(self, now: float) -> Ending | None:
        if not self.is_silent:
            return None
        seconds = self._limits.lease_seconds
        return Ending(Cause.SILENCE, kill_at=now, error=f"it gave no sign of life for {seconds:g} s")

    def _overtime(self, now: float) -> Ending | None:
        for name, block in self._running.items():
            if block.timeout_seconds is not None and now - block.started > block.timeout_seconds:
                error = (
                    f"Block '{name}' ran longer than its timeout of {block.timeout_seconds:g} s "
                    "and was ended. Raise `timeout` in the pipeline's metadata.yaml, "
                    "or give the block less to do."
                )
                return Ending(
                    Cause.LIMIT, kill_at=now + self._limits.drain_seconds, culprit=name, error=error
                )
        return None

    def _overweight(self, now: float) -> Ending | None:
        if not self._running:
            return None
        assert self._process is not None
        used_mb = self._process.memory_bytes() / 2**20
        # The process is measured as a whole: of several blocks the one that began last is blamed.
        name, block = max(self._running.items(), key=lambda item: item[1].started)
        allowed_mb = block.memory_mb or self._limits.memory_mb
        if used_mb <= allowed_mb:
            return None
        beside = sorted(set(self._running) - {name})
        error = (
            f"Block '{name}' was ended: its process used {used_mb:,.0f} MB, {allowed_mb:,.0f} MB are allowed"
            + (f" (beside it ran {', '.join(beside)})" if beside else "")
            + ". Raise `memory` of the block, or read the data in parts."
        )
        return Ending(Cause.LIMIT, kill_at=now, culprit=name, error=error)

    def _is_kill_due(self, ending: Ending, now: float) -> bool:
        siblings = self._running.keys() - {ending.culprit}
        return now >= ending.kill_at or not siblings


def _describe_exit(exit_code: int) -> str:
    if exit_code < 0:
        return f"by signal {signal.Signals(-exit_code).name}"
    return f"with exit code {exit_code}"


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _log_line(line: Mapping[str, Any]) -> LogLine:
    return LogLine(
        seq=0,
        at=datetime.fromisoformat(line["at"]),
        level=line["level"],
        text=line["text"],
        block=line["block"],
        attempt=line["attempt"],
    )
