"""Walks the graph of one run: starts each block as soon as it may start, and says how the run ended.

A block starts when its inputs are in memory, on the thread that made the last of them; an exporter when they
are finished. Further threads come only with further branches.
"""

from __future__ import annotations

import contextvars
import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from pipelines.attempts import Attempts
from pipelines.blocklogs import DEFAULT_CAPS, LogCaps, RunLogs
from pipelines.blockruns import BlockRunner
from pipelines.blocks.chained_assignment import refused_chained_assignment
from pipelines.checkpoints import Checkpoints
from pipelines.crash import CrashPoints
from pipelines.dynamic import adopt, conclusion, make_children, members
from pipelines.finishing import Ending, Finisher
from pipelines.inputs import Inputs
from pipelines.io.config import Profiles
from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.model import BlockType
from pipelines.nodes import Node, State, plan
from pipelines.runspec import BlockProgress, BlockReport, RunListener, RunResult, RunSpec

__all__ = ["BlockProgress", "BlockReport", "RunListener", "RunResult", "RunSpec", "execute"]

Clock = Callable[[], datetime]

MAX_BRANCHES = 16  # blocks of one run that run at once
SUSPECT_DEATHS = 2  # how often a process dies under a block before it is tried with nothing beside it


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
    blocks = BlockRunner(spec, profiles, checkpoints, crash)
    try:
        with logs.capturing(), refused_chained_assignment(), mage_names(_places(spec, checkpoints)):
            attempts = Attempts(spec, blocks, logs, listener, clock)
            return _Walk(spec, listener, checkpoints, attempts, clock, drain).run()
    finally:
        blocks.forget_modules()


def _places(spec: RunSpec, checkpoints: Checkpoints) -> Places:
    return Places(spec.root, frozenset({spec.facts.project}), checkpoints.root.parent / "mage_data")


class _Walk:
    """The state of one walk. One lock guards all of it; blocks run and reports are made outside of it."""

    def __init__(
        self,
        spec: RunSpec,
        listener: RunListener,
        checkpoints: Checkpoints,
        attempts: Attempts,
        clock: Clock,
        drain: threading.Event,
    ) -> None:
        self._spec = spec
        self._listener = listener
        self._checkpoints = checkpoints
        self._attempts = attempts
        self._clock = clock
        self._drain = drain
        self._branches = min(MAX_BRANCHES, spec.pipeline.block_limit or MAX_BRANCHES)
        self._nodes = plan(spec, checkpoints)
        self._finisher = Finisher(spec, listener, checkpoints, self._on_finished)
        self._changed = threading.Condition()
        self._inputs = Inputs(checkpoints, self._changed)
        self._ready: deque[Node] = deque()
        self._suspects: deque[Node] = deque()  # ready as well, but each to run with nothing beside it
        self._parked = {node for node in self._nodes.values() if node.state is State.WAITING}
        self._open = sum(node.state.is_open for node in self._nodes.values())
        self._running = 0
        self._runs_alone = False  # what runs now is a suspect
        self._uncommitted = 0  # reports that were handed in
        self._helpers: list[threading.Thread] = []
        self._idle = 0  # threads that wait for something to do
        self._lost: BaseException | None = None  # why no report is taken any more

    def run(self) -> RunResult:
        self._finisher.start()
        self._tell_of_deaths(self._nodes.values())
        with self._changed:
            for node in list(self._nodes.values()):
                self._advance(node)
        self._work()
        for helper in self._helpers:
            helper.join()
        self._finisher.close()
        return self._result()

    def _work(self) -> None:
        while (node := self._next()) is not None:
            try:
                contextvars.copy_context().run(self._expand if node.is_controller else self._run_block, node)
            except BaseException as error:  # not the block's, which are caught: nobody listens any more
                with self._changed:
                    self._lost = error
                    self._running -= 1

    def _next(self) -> Node | None:
        """Wait for a block that may start, and take it; None when this thread is not needed any more."""
        with self._changed:
            while True:
                self._requeue_due_retries()
                if not self._must_stop() and (node := self._take()) is not None:
                    self._running += 1
                    self._set_state(node, State.RUNNING)
                    node.attempt += 1
                    self._call_helpers(len(self._ready))
                    return node
                if not self._running and not self._awaits_commits():
                    self._changed.notify_all()
                    return None
                self._idle += 1
                self._changed.wait(self._seconds_to_next_retry())
                self._idle -= 1

    def _take(self) -> Node | None:
        """Take a block that may start now. One under which the process died before is tried alone."""
        if self._running and self._runs_alone:
            return None
        self._runs_alone = False
        if self._ready:
            return self._ready.popleft()
        if self._suspects and not self._running:
            self._runs_alone = True
            return self._suspects.popleft()
        return None

    def _awaits_commits(self) -> bool:
        """Say whether a commit may still let a block start. The last blocks' own need not be waited for."""
        return self._uncommitted > 0 and self._open > 0

    def _must_stop(self) -> bool:
        return self._drain.is_set() or self._lost is not None

    def _call_helpers(self, wanted: int) -> None:
        """See to it that `wanted` threads, beside the busy ones, look for something to do."""
        self._changed.notify(wanted)
        for _ in range(min(wanted - self._idle, self._branches - 1 - len(self._helpers))):
            helper = threading.Thread(target=self._work, name=f"branch-{len(self._helpers) + 1}", daemon=True)
            self._helpers.append(helper)
            helper.start()

    def _set_state(self, node: Node, state: State) -> None:
        """Change a node's state; what is counted by state is counted here."""
        self._open += state.is_open - node.state.is_open
        if state is State.WAITING:
            self._parked.add(node)
        else:
            self._parked.discard(node)
        node.state = state

    # Blocks

    def _run_block(self, node: Node) -> None:
        report, outputs = self._attempts.make(node, lambda: self._inputs.of(node))
        self._settle(node, report, outputs)

    def _settle(self, node: Node, report: BlockReport, outputs: tuple[Any, ...] | None) -> None:
        """Take the end of an attempt into the graph, then hand it in to be stored and reported."""
        with self._changed:
            self._set_state(node, State(report.state))
            node.attempt, node.rows = report.attempt, report.rows
            node.error, node.retry_at = report.error, report.retry_at
            if outputs is not None:
                node.hold(outputs)
                node.returned_nothing = not outputs and node.block.type is not BlockType.SENSOR
            if node.state is not State.WAITING:
                self._let_inputs_go(node)
            stored = outputs if node.block.checkpoint else None
            volatile = outputs is not None and stored is None
            self._hand_in(Ending(dataclasses.replace(report, volatile=volatile), stored))
            if node.state is not State.WAITING:  # a retry starts only after its report is committed
                self._advance_consumers(node)
                self._count_child(node)
            self._running -= 1  # this thread looks for the next block itself, so nobody has to be woken

    def _let_inputs_go(self, node: Node) -> None:
        for upstream in node.upstream:
            upstream.release([node])
        node.given.clear()

    def _hand_in(self, ending: Ending) -> None:
        self._uncommitted += 1
        self._finisher.hand_in(ending)

    def _advance_consumers(self, node: Node) -> None:
        for consumer in node.consumers:
            self._advance(consumer)

    def _advance(self, node: Node) -> None:
        """Make a pending block ready, or settle it when its inputs will never come."""
        if node.can_start:
            self._set_state(node, State.READY)
            (self._suspects if node.deaths >= SUSPECT_DEATHS else self._ready).append(node)
            return
        verdict = node.verdict_without_running()
        if verdict is None:
            return
        self._set_state(node, verdict)
        self._let_inputs_go(node)
        now = self._clock()
        report = BlockReport(
            node.name, verdict, node.attempt, None, now, reason=node.reason_without_running()
        )
        self._hand_in(Ending(report))
        self._advance_consumers(node)
        self._count_child(node)

    # Controllers

    def _expand(self, controller: Node) -> None:
        """Find the children of a block that runs once for each item, and let those start that may."""
        now = self._clock()
        try:
            found = members(
                controller,
                lambda giver: self._inputs.outputs(giver, controller),
                most=self._spec.pipeline.child_limit,
            )
            children = make_children(controller, found, self._spec.progress, self._checkpoints)
        except Exception as error:  # a run that would meet it at every claim would never end
            self._listener.block_expanded(controller.name, controller.attempt, now, [])
            report = self._attempts.failed_to_expand(controller, error)
            self._settle(controller, report, None)
            return
        named = [(child.name, number) for number, child in enumerate(children)]
        self._listener.block_expanded(controller.name, controller.attempt, now, named)
        self._tell_of_deaths(children)
        with self._changed:
            self._set_state(controller, State.EXPANDED)
            self._nodes.update((child.name, child) for child in children)
            for child in children:
                self._open += child.state.is_open
                if child.state is State.WAITING:
                    self._parked.add(child)
            adopt(controller, children)
            for child in children:
                self._advance(child)
            self._advance_consumers(controller)
            self._conclude(controller)
            self._running -= 1

    def _count_child(self, node: Node) -> None:
        if node.parent is not None:
            node.parent.open_children -= 1
            self._conclude(node.parent)

    def _conclude(self, controller: Node) -> None:
        """End a controller once all of its children are over."""
        if controller.state is not State.EXPANDED or controller.open_children:
            return
        report = conclusion(controller, self._clock())
        self._set_state(controller, State(report.state))
        controller.error, controller.rows = report.error, report.rows
        self._hand_in(Ending(report))
        self._advance_consumers(controller)
        self._count_child(controller)

    # Commits, retries, deaths

    def _tell_of_deaths(self, nodes: Iterable[Node]) -> None:
        """Call the callbacks of blocks that were ended from outside, and could not call them themselves."""
        for node in nodes:
            if node.state is State.FAILED and node.was_killed:
                report = self._attempts.tell_of_death(node)
                if report is not None:
                    with self._changed:
                        self._hand_in(Ending(report))

    def _on_finished(self, report: BlockReport, error: BaseException | None) -> None:
        """Hear that a report is committed, or that no report will be."""
        with self._changed:
            self._uncommitted -= 1
            node = self._nodes.get(report.block)
            if error is not None:
                self._lost = error
            elif node is not None and report.state == State.SUCCEEDED:
                self._on_success_committed(node, report)
            elif node is not None and report.state == State.WAITING:
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
        if not self._parked:
            return
        now = self._clock()
        for node in list(self._parked):
            if node.may_retry and (node.retry_at is None or node.retry_at <= now):
                self._set_state(node, State.PENDING)
                node.may_retry = False
                self._advance(node)

    def _seconds_to_next_retry(self) -> float | None:
        dues = [node.retry_at for node in self._parked if node.may_retry and node.retry_at is not None]
        if not dues or self._must_stop():
            return None
        return max(0.001, (min(dues) - self._clock()).total_seconds())

    def _result(self) -> RunResult:
        if self._lost is not None:
            return RunResult("stopped", error=f"a report could not be committed: {self._lost}")
        if self._ready or self._suspects:
            return RunResult("stopped")
        if self._parked:
            now = self._clock()
            return RunResult("waiting", retry_at=min(node.retry_at or now for node in self._parked))
        failed = next((node for node in self._nodes.values() if node.state is State.FAILED), None)
        if failed is None or self._spec.allows_blocks_to_fail:
            return RunResult("succeeded")
        return RunResult("failed", error=f"block {failed.name!r} failed: {failed.error}")
