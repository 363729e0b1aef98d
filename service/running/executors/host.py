"""The worker process: warm, bound to one engine by one channel, executing one run at a time.

Started as `python -m service.running.executors.host FD`. The only place where block code runs.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - loaded here so that no run has to wait for it
import psutil
import pyarrow
import pyarrow.dataset
import pyarrow.parquet  # noqa: F401 - the same

from pipelines.blocklogs import LogCaps
from pipelines.checkpoints import Checkpoints
from pipelines.crash import CrashPoints
from pipelines.errors import MillraceError
from pipelines.io.config import Profiles
from pipelines.model import CHILD_MARK, Block, Pipeline
from pipelines.project import pipeline_from_sources
from pipelines.run import execute
from pipelines.runspec import BlockProgress, BlockReport, RunOptions, RunResult, RunSpec
from pipelines.secrets import Secrets
from pipelines.surroundings import add_project_to_path, restored_process
from pipelines.variables import RunFacts, merged_variables
from service.clock import utc_now
from service.running.executors.base import Message
from service.running.executors.calls import ChannelCalls
from service.running.executors.channel import Channel, die, outlive_sigterm
from service.running.executors.leftovers import adopt_orphans, end_children
from service.running.executors.modules import LoadedModules

BEAT_SECONDS = 0.25
LOG_BATCH_LINES = 500
LOG_BATCH_CHARACTERS = 1_000_000  # far below what a message may have, also where JSON needs six for one


class ChannelListener:
    """Tells the engine what happens in a run; completes a block's future when the engine has stored it."""

    def __init__(self, channel: Channel, pipeline: Pipeline) -> None:
        self._channel = channel
        self._pipeline = pipeline
        self._waiting: dict[str, Future[None]] = {}
        self._lines: list[dict[str, Any]] = []
        self._characters = 0
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Pass on what there is. What a thread that outlives the run still says belongs to no run."""
        self.flush()
        with self._lock:
            self._closed = True

    def block_started(self, block: str, attempt: int, at: datetime) -> None:
        declared: Block = self._pipeline.block(block.partition(CHILD_MARK)[0])
        delay = declared.retry.delay_after(attempt)
        self._channel.send(
            {
                "type": "started",
                "block": block,
                "attempt": attempt,
                "at": at.isoformat(),
                "timeout_seconds": declared.timeout_seconds,
                "memory_mb": declared.memory_mb,
                "retry_seconds": None if delay is None else delay.total_seconds(),
            }
        )

    def block_expanded(
        self, block: str, attempt: int, at: datetime, children: Sequence[tuple[str, int]]
    ) -> None:
        self._channel.send(
            {
                "type": "expanded",
                "block": block,
                "attempt": attempt,
                "at": at.isoformat(),
                "children": list(children),
            }
        )

    def block_ended(self, report: BlockReport) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            self._waiting[report.block] = future
        self.flush()
        self._channel.send(
            {
                "type": "ended",
                "block": report.block,
                "state": report.state,
                "attempt": report.attempt,
                "at": report.finished_at.isoformat(),
                "rows": report.rows,
                "error": report.error,
                "retry_at": _text(report.retry_at),
                "checkpoint": report.checkpoint,
                "volatile": report.volatile,
                "reason": report.reason,
            }
        )
        return future

    def log(self, block: str | None, attempt: int, level: str, text: str, at: datetime) -> None:
        line = {"block": block, "attempt": attempt, "level": level, "text": text, "at": at.isoformat()}
        with self._lock:
            if self._closed:
                return
            self._lines.append(line)
            self._characters += len(text)
            full = len(self._lines) >= LOG_BATCH_LINES or self._characters >= LOG_BATCH_CHARACTERS
        if full:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            lines, self._lines, self._characters = self._lines, [], 0
            if lines:  # sent under the lock, so that batches keep their order
                self._channel.send({"type": "logs", "lines": lines})

    def recorded(self, block: str) -> None:
        with self._lock:
            future = self._waiting.pop(block, None)
        if future is not None:
            future.set_result(None)


class Host:
    """Runs blocks in the main thread; others read the channel, show life, and guard the lease."""

    def __init__(self, channel: Channel, hello: Message) -> None:
        self._channel = channel
        self._hello = hello
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._listener: ChannelListener | None = None  # of the run in hand
        self._calls: ChannelCalls | None = None  # of its blocks
        self._drain = threading.Event()
        self._active = threading.Event()
        self._lease_until = float("inf")
        self._crash = CrashPoints(hello["crash_at"])
        self._checkpoints = Checkpoints(Path(hello["checkpoints"]), crash=self._crash)
        self._log_caps = LogCaps(hello["block_log_characters"], hello["log_line_characters"])
        self._secrets = Secrets(Path(hello["secrets"]), os.environ)
        self._pipelines: dict[str, Pipeline] = {}
        self._modules = LoadedModules()
        self._runs = 0

    def serve(self) -> None:
        """Execute runs until told to end. Returns only to leave the process."""
        threading.Thread(target=self._listen, name="channel", daemon=True).start()
        threading.Thread(target=self._show_life, name="life", daemon=True).start()
        threading.Thread(target=self._guard_lease, name="lease", daemon=True).start()
        self._channel.send({"type": "ready"})
        while True:
            message = self._inbox.get()
            if message["type"] == "shutdown":
                return
            if self._modules.have_changed():
                self._channel.send({"type": "stale"})  # the run goes to a fresh process
                return
            if self._execute(message):
                return

    def _listen(self) -> None:
        for message in self._channel.messages():
            match message["type"]:
                case "run":
                    self._lease_until = message["lease_until"]
                    self._drain.clear()
                    self._inbox.put(message)
                case "shutdown":
                    self._inbox.put(message)
                case "lease":
                    self._lease_until = message["until"]
                case "recorded" if self._listener is not None:
                    self._listener.recorded(message["block"])
                case "answer" if self._calls is not None:
                    self._calls.answered(message)
                case "drain":
                    self._drain.set()

    def _show_life(self) -> None:
        """While a run is in hand: say so, and pass its log lines on."""
        while True:
            self._active.wait()
            listener = self._listener
            if listener is not None:
                listener.flush()
                self._channel.send({"type": "beat"})
            time.sleep(BEAT_SECONDS)

    def _guard_lease(self) -> None:
        """End the process with its lease. It never sends: the channel of a stopped engine takes nothing."""
        while True:
            self._active.wait()
            was_lapsed = self._is_lapsed()
            time.sleep(BEAT_SECONDS)
            # Seen twice, because the reader may just have taken a renewal out and not noted it yet.
            if was_lapsed and self._is_lapsed():
                die()  # somebody else has the run now; what this process still did would be wrong

    def _is_lapsed(self) -> bool:
        # A renewal may lie unread in the channel, when a block held the interpreter's lock for long.
        return time.monotonic() > self._lease_until and not self._channel.has_news()

    def _execute(self, message: Message) -> bool:
        """Execute one run and send its result; return whether the process has served its time."""
        try:
            pipeline = self._pipeline(message)
            listener = self._listener = ChannelListener(self._channel, pipeline)
            self._active.set()
            if pipeline.timeout_seconds is not None:
                self._channel.send({"type": "began", "timeout_seconds": pipeline.timeout_seconds})
            result = self._walk(message, pipeline, listener)
        except MillraceError as error:
            result = RunResult("failed", error=str(error))
        except Exception as error:
            result = RunResult("failed", error=f"Millrace itself failed on this run: {error!r}")
        self._active.clear()
        self._listener = None
        self._lease_until = float("inf")  # before the result: the next run may come with its own at once
        self._runs += 1
        retire = self._has_served()
        self._channel.send(
            {
                "type": "result",
                "state": result.state,
                "error": result.error,
                "retry_at": _text(result.retry_at),
                "retire": retire,
            }
        )
        return retire

    def _walk(self, message: Message, pipeline: Pipeline, listener: ChannelListener) -> RunResult:
        root = Path(message["root"])
        self._modules.watch(root)
        add_project_to_path(root)
        calls = self._calls = ChannelCalls(self._channel)
        try:
            with restored_process(root):
                return execute(
                    dataclasses.replace(run_spec(message, pipeline), service=calls),
                    listener,
                    checkpoints=self._checkpoints,
                    profiles=Profiles(root, environ=os.environ, secrets=self._secrets),
                    crash=self._crash,
                    clock=utc_now,
                    drain=self._drain,
                    log_caps=self._log_caps,
                )
        finally:
            calls.close()
            for process in end_children():
                listener.log(
                    None,
                    message["attempt"],
                    "warning",
                    f"ended a process that a block left behind: {process}",
                    utc_now(),
                )
            listener.close()
            self._modules.remember()

    def _pipeline(self, message: Message) -> Pipeline:
        known = self._pipelines.get(message["pin"])
        if known is None:
            known = self._pipelines[message["pin"]] = pipeline_from_sources(
                message["pipeline"], message["sources"]
            )
        return known

    def _has_served(self) -> bool:
        grown = bool(psutil.Process().memory_info().rss > self._hello["memory_mb"] * 2**20 * 3 // 4)
        return grown or self._runs >= self._hello["runs_per_process"]


def run_spec(message: Message, pipeline: Pipeline) -> RunSpec:
    """Return what `pipelines.run` needs, from the engine's message."""
    facts = RunFacts(
        run_id=message["run_id"],
        project=message["project"],
        pipeline=message["pipeline"],
        trigger=message["trigger"],
        execution_date=datetime.fromisoformat(message["execution_date"]),
        interval_start=_moment(message["interval_start"]),
        interval_end=_moment(message["interval_end"]),
        timezone=message["timezone"],
        attempt=message["attempt"],
        event=message["event"],
    )
    return RunSpec(
        facts=facts,
        root=Path(message["root"]),
        pipeline=pipeline,
        sources=message["sources"],
        variables=merged_variables(pipeline, message["variables"]),
        progress={name: _progress(block) for name, block in message["progress"].items()},
        selection=tuple(message["selection"]),
        options=RunOptions(**message["options"]),
    )


def _progress(block: Message) -> BlockProgress:
    return BlockProgress(
        state=block["state"],
        attempt=block["attempt"],
        deaths=block["deaths"],
        checkpoint=block["checkpoint"],
        volatile=block["volatile"],
        retry_at=_moment(block["retry_at"]),
        rows=block["rows"],
        error=block["error"],
        killed=block["killed"],
        first_started_at=_moment(block["first_started_at"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def main() -> None:
    outlive_sigterm()
    channel = Channel(int(sys.argv[1]))
    hello = next(channel.messages())
    adopt_orphans()
    gc.collect()
    gc.freeze()  # what is loaded now stays; the collector need not look at it again
    Host(channel, hello).serve()
    # Without the interpreter's farewell: native libraries (DuckDB's bindings) complain there about what
    # is still loaded, on the terminal of whoever ran a pipeline.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
