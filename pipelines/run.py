"""Walks the graph of one run: starts each block as soon as it may start, and says how the run ended.

A block starts when its inputs are in memory, on the thread that made the last of them; an exporter when they
are finished. Further threads come only with further branches.
"""

from __future__ import annotations

import contextvars
import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pipelines.blocklogs import DEFAULT_CAPS, BlockLog, LogCaps, RunLogs
from pipelines.blockruns import BlockRunner
from pipelines.blocks.chained_assignment import refused_chained_assignment
from pipelines.blocks.python import input_of
from pipelines.blocks.tracebacks import describe, user_traceback
from pipelines.checkpoints import Checkpoints
from pipelines.crash import CrashPoints
from pipelines.errors import BlockCodeError, BlockSkipped, TerminalError
from pipelines.finishing import Ending, Finisher
from pipelines.handover import own_copies
from pipelines.io.config import Profiles
from pipelines.nodes import Node, State, plan
from pipelines.runspec import BlockProgress, BlockReport, RunListener, RunResult, RunSpec

__all__ = ["BlockProgress", "BlockReport", "RunListener", "RunResult", "RunSpec", "execute"]

Clock = Callable[[], datetime]

MAX_BRANCHES = 16  # blocks of one run that run at once


def execute(
    spec: RunSpec,
    listener: RunListener,
    *,
    checkpoints: Checkpoints,
    profiles: Profiles,
    crash: CrashPoints,
    clock: Clock,
    drain: threading.Event,
    log_caps: LogCaps = DEFAULT_CAPS,
) -> RunResult:
    """Run what is left of a run; return once nothing more can be done now and all of it is reported.

    The last reports may still be on their way; whatever the caller reports next has to stand behind them.
    When `drain` is set nothing new starts, and the result is "stopped" unless the run had come to its end.
    The process's standard streams are captured meanwhile, so a process executes one run at a time.
    """

    def log(block: str | None, attempt: int, level: str, text: str) -> None:
        listener.log(block, attempt, level, text, clock())

    logs = RunLogs(log, log_caps)
    blocks = BlockRunner(spec, profiles, crash)
    try:
        with logs.capturing(), refused_chained_assignment():
            return _Walk(spec, listener, checkpoints, blocks, logs, clock, drain).run()
    finally:
        blocks.forget_modules()


class _Walk:
    """The state of one walk. One lock guards all of it; blocks run and reports are made outside of it."""

    def __init__(
        self,
        spec: RunSpec,
        listener: RunListener,
        checkpoints: Checkpoints,
        blocks: BlockRunner,
        logs: RunLogs,
        clock: Clock,
        drain: threading.Event,
    ) -> None:
        self._root = spec.root
        self._listener = listener
        self._checkpoints = checkpoints
        self._blocks = blocks
        self._logs = logs
        self._clock = clock
        self._drain = drain
        self._nodes = plan(spec, checkpoints)
        self._finisher = Finisher(spec, listener, checkpoints, self._on_finished)
        self._changed = threading.Condition()
        self._ready: deque[Node] = deque()
        self._running = 0
        self._uncommitted = 0  # reports that were handed in
        self._helpers: list[threading.Thread] = []
        self._idle = 0  # threads that wait for something to do
        self._lost: BaseException | None = None  # why no report is taken any more

    def run(self) -> RunResult:
        self._finisher.start()
        with self._changed:
            for node in self._nodes.values():
                self._advance(node)
        self._work()
        for helper in self._helpers:
            helper.join()
        self._finisher.close()
        return self._result()

    def _work(self) -> None:
        while (node := self._next()) is not None:
            try:
                contextvars.copy_context().run(self._run_block, node)
            except BaseException as error:  # not the block's, which are caught: nobody listens any more
                with self._changed:
                    self._lost = error
                    self._running -= 1

    def _next(self) -> Node | None:
        """Wait for a block that may start, and take it; None when this thread is not needed any more."""
        with self._changed:
            while True:
                self._requeue_due_retries()
                if self._ready and not self._must_stop():
                    self._running += 1
                    node = self._ready.popleft()
                    node.state, node.attempt = State.RUNNING, node.attempt + 1
                    self._call_helpers(len(self._ready))
                    return node
                if not self._running and not self._awaits_commits():
                    self._changed.notify_all()
                    return None
                self._idle += 1
                self._changed.wait(self._seconds_to_next_retry())
                self._idle -= 1

    def _awaits_commits(self) -> bool:
        """Say whether a commit may still let a block start. The last blocks' own need not be waited for."""
        open_states = (State.PENDING, State.WAITING)
        return self._uncommitted > 0 and any(node.state in open_states for node in self._nodes.values())

    def _must_stop(self) -> bool:
        return self._drain.is_set() or self._lost is not None

    def _call_helpers(self, wanted: int) -> None:
        """See to it that `wanted` threads, beside the busy ones, look for something to do."""
        self._changed.notify(wanted)
        for _ in range(min(wanted - self._idle, MAX_BRANCHES - 1 - len(self._helpers))):
            helper = threading.Thread(target=self._work, name=f"branch-{len(self._helpers) + 1}", daemon=True)
            self._helpers.append(helper)
            helper.start()

    def _run_block(self, node: Node) -> None:
        started_at = self._clock()
        self._listener.block_started(node.name, node.attempt, started_at)
        report = BlockReport(node.name, State.SUCCEEDED, node.attempt, started_at, started_at)
        outputs = None
        with self._logs.of_block(node.name, node.attempt) as log:
            try:
                outputs, rows = self._blocks.run(node, self._inputs(node))
                # The block may go on to change what it returned; all others copy from this copy.
                outputs = own_copies(outputs)
            except BaseException as error:
                report = self._failure(node, report, error, log)
            else:
                report = dataclasses.replace(report, rows=rows, finished_at=self._clock())
        self._settle(node, report, outputs)

    def _inputs(self, node: Node) -> list[Any]:
        """Return this block's own copies of what its upstream blocks returned."""
        inputs = []
        for upstream in node.upstream:
            if upstream.state is State.ABSENT:
                raise BlockCodeError(
                    f"block {node.name!r} needs the output of {upstream.name!r}, which was not selected to "
                    f"run and has no stored output in this run; select it as well (--with-upstream)"
                )
            with self._changed:
                outputs, manifest = upstream.outputs, upstream.manifest
            if outputs is not None:
                inputs.append(input_of(own_copies(outputs)))
            else:
                assert manifest is not None
                inputs.append(input_of(self._checkpoints.load(manifest)))
        with self._changed:
            for upstream in node.upstream:
                if upstream.manifest is not None or node.block.retry.retries == 0:
                    upstream.release([node])
        return inputs

    def _failure(self, node: Node, report: BlockReport, error: BaseException, log: BlockLog) -> BlockReport:
        now = self._clock()
        if isinstance(error, BlockSkipped):
            log.message("warning", f"skipped: {error}")
            return dataclasses.replace(report, state=State.SKIPPED, finished_at=now, error=str(error))
        log.message("error", user_traceback(error, self._root))
        text = describe(error, self._root) + self._note_on_missing_inputs(node)
        delay = None if isinstance(error, TerminalError) else node.block.retry.delay_after(node.attempt)
        if delay is None:
            return dataclasses.replace(report, state=State.FAILED, finished_at=now, error=text)
        return dataclasses.replace(
            report, state=State.WAITING, finished_at=now, error=text, retry_at=now + delay
        )

    def _note_on_missing_inputs(self, node: Node) -> str:
        empty = [repr(upstream.name) for upstream in node.upstream if upstream.returned_nothing]
        if not empty:
            return ""
        names = ", ".join(empty)
        return (
            f" (its upstream block {names} returned nothing, so that input is None; is a `return` missing?)"
        )

    def _settle(self, node: Node, report: BlockReport, outputs: tuple[Any, ...] | None) -> None:
        """Take the end of an attempt into the graph, then hand it in to be stored and reported."""
        with self._changed:
            node.state = State(report.state)
            node.error, node.retry_at = report.error, report.retry_at
            if outputs is not None:
                node.hold(outputs)
                node.returned_nothing = not outputs
            if node.state is not State.WAITING:
                for upstream in node.upstream:
                    upstream.release([node])
            stored = outputs if node.block.checkpoint else None
            volatile = outputs is not None and stored is None
            self._hand_in(Ending(dataclasses.replace(report, volatile=volatile), stored))
            if node.state is not State.WAITING:  # a retry starts only after its report is committed
                self._advance_consumers(node)
            self._running -= 1  # this thread looks for the next block itself, so nobody has to be woken

    def _hand_in(self, ending: Ending) -> None:
        self._uncommitted += 1
        self._finisher.hand_in(ending)

    def _advance_consumers(self, node: Node) -> None:
        for consumer in node.consumers:
            self._advance(consumer)

    def _advance(self, node: Node) -> None:
        """Make a pending block ready, or settle it when its inputs will never come."""
        if node.can_start:
            node.state = State.READY
            self._ready.append(node)
            return
        verdict = node.verdict_without_running()
        if verdict is None:
            return
        node.state = verdict
        for upstream in node.upstream:
            upstream.release([node])
        now = self._clock()
        self._hand_in(Ending(BlockReport(node.name, verdict, node.attempt, None, now)))
        self._advance_consumers(node)

    def _on_finished(self, report: BlockReport, error: BaseException | None) -> None:
        """Hear that a report is committed, or that no report will be."""
        with self._changed:
            self._uncommitted -= 1
            node = self._nodes[report.block]
            if error is not None:
                self._lost = error
            elif report.state == State.SUCCEEDED:
                self._on_success_committed(node, report)
            elif report.state == State.WAITING:
                node.may_retry = True
            # A retry that is due later needs a thread that waits for it, while others may be busy for long.
            self._call_helpers(len(self._ready) + (report.state == State.WAITING))
            if not self._running and not self._awaits_commits():
                self._changed.notify_all()

    def _on_success_committed(self, node: Node, report: BlockReport) -> None:
        node.is_finished = True
        if report.checkpoint is not None:
            node.manifest = dict(report.checkpoint)
            node.release([consumer for consumer in node.consumers if not consumer.is_to_start])
        self._advance_consumers(node)

    def _requeue_due_retries(self) -> None:
        now = self._clock()
        for node in self._parked():
            if node.may_retry and (node.retry_at is None or node.retry_at <= now):
                node.state, node.may_retry = State.PENDING, False
                self._advance(node)

    def _parked(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.state is State.WAITING]

    def _seconds_to_next_retry(self) -> float | None:
        dues = [node.retry_at for node in self._parked() if node.may_retry and node.retry_at is not None]
        if not dues or self._must_stop():
            return None
        return max(0.001, (min(dues) - self._clock()).total_seconds())

    def _result(self) -> RunResult:
        if self._lost is not None:
            return RunResult("stopped", error=f"a report could not be committed: {self._lost}")
        if self._ready:
            return RunResult("stopped")
        parked = self._parked()
        if parked:
            return RunResult("waiting", retry_at=min(node.retry_at or self._clock() for node in parked))
        for node in self._nodes.values():
            if node.state is State.FAILED:
                return RunResult("failed", error=f"block {node.name!r} failed: {node.error}")
        return RunResult("succeeded")
