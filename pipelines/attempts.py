"""Makes single attempts of blocks: the conditions before, the block itself, the callbacks after it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipelines.blocklogs import BlockLog, RunLogs
from pipelines.blockruns import BlockEnding, BlockRunner
from pipelines.blocks.python import input_of
from pipelines.blocks.tracebacks import describe, user_traceback
from pipelines.dynamic import items_of
from pipelines.errors import BlockSkipped, MillraceError, NotYet, TerminalError
from pipelines.handover import own_copies
from pipelines.model import Block
from pipelines.nodes import Node, State
from pipelines.runspec import BlockReport, RunListener, RunSpec

Outputs = tuple[Any, ...]


class OutOfTime(TerminalError):
    """A block waited longer than its timeout for what it looks for."""


class EndedFromOutside(MillraceError):
    """What a callback hears of a block whose process was ended: the sentence of its row."""


class Attempts:
    """Makes attempts of the blocks of one run, on whatever thread asks."""

    def __init__(
        self,
        spec: RunSpec,
        blocks: BlockRunner,
        logs: RunLogs,
        listener: RunListener,
        clock: Callable[[], datetime],
    ) -> None:
        self._root = spec.root
        self._blocks = blocks
        self._logs = logs
        self._listener = listener
        self._clock = clock
        self._conditionals = _by_guarded(spec.pipeline.conditionals)
        self._callbacks = _by_guarded(spec.pipeline.callbacks)

    def make(self, node: Node, inputs: Callable[[], list[Any]]) -> tuple[BlockReport, Outputs | None]:
        """Try a block once; return what came of it, and its outputs if it succeeded.

        Only what comes from the listener is raised; whatever the block's code raises is in the report.
        """
        started_at = self._clock()
        node.first_started_at = node.first_started_at or started_at
        self._listener.block_started(node.name, node.attempt, started_at)
        report = BlockReport(node.name, State.SUCCEEDED, node.attempt, started_at, started_at)
        seen: list[Any] = []  # by the block, for its callbacks
        with self._logs.of_block(node.name, node.attempt) as log:
            try:
                given = inputs()
                if self._callbacks.get(node.declared, ()):
                    seen += own_copies(given)
                return self._tried(node, report, given, seen, log)
            except NotYet as not_yet:
                return self._parked(node, report, not_yet), None
            except BlockSkipped as skipped:
                log.message("warning", f"skipped: {skipped}")
                return self._ended(report, State.SKIPPED, error=str(skipped), reason=str(skipped)), None
            except BaseException as error:
                return self._failed(node, report, error, log, seen), None

    def tell_of_death(self, node: Node) -> BlockReport | None:
        """Call the callbacks of a block whose failing process could not; None when nobody wants to hear."""
        if not self._callbacks.get(node.declared, ()):
            return None
        with self._logs.of_block(node.name, node.attempt) as log:
            error = EndedFromOutside(node.error or "the block was ended from outside")
            self._call_back(node, BlockEnding("failure", error=error), log)
        now = self._clock()
        return BlockReport(
            node.name, State.FAILED, node.attempt, node.first_started_at, now, error=node.error
        )

    def failed_to_expand(self, node: Node, error: BaseException) -> BlockReport:
        """End a block whose children cannot be found; its callbacks hear of it, as they would of theirs."""
        now = self._clock()
        with self._logs.of_block(node.name, node.attempt) as log:
            log.message("error", user_traceback(error, self._root))
            self._call_back(node, BlockEnding("failure", error=error), log)
        report = BlockReport(node.name, State.FAILED, node.attempt, now, now)
        return self._ended(report, State.FAILED, error=describe(error, self._root))

    def _tried(
        self, node: Node, report: BlockReport, inputs: list[Any], seen: list[Any], log: BlockLog
    ) -> tuple[BlockReport, Outputs | None]:
        if (reason := self._objection(node, inputs, log)) is not None:
            log.message("info", f"skipped: {reason}")
            return self._ended(report, State.SKIPPED, reason=reason), None
        outputs, rows = self._blocks.run(node, inputs)
        if node.block.is_dynamic:
            items_of(node.block, outputs)  # what is wrong with them is this block's failure
        # The block may go on to change what it returned; all others copy from this copy.
        outputs = own_copies(outputs)
        if self._callbacks.get(node.declared, ()):
            self._call_back(node, BlockEnding("success", input_of(own_copies(outputs)), seen), log)
        return dataclasses.replace(report, rows=rows, finished_at=self._clock()), outputs

    def _objection(self, node: Node, inputs: Sequence[Any], log: BlockLog) -> str | None:
        """Return why the block is not to run. Asked once: not of a retry, nor when a sensor looks again."""
        if node.attempt > 1 or node.was_parked:
            return None
        for conditional in self._conditionals.get(node.declared, ()):
            try:
                name = self._blocks.objection(node, conditional, inputs)
            except BaseException as error:  # sys.exit() as well
                log.message("error", user_traceback(error, self._root))
                text = describe(error, self._root)
                return f"conditional '{conditional.name}' failed, which counts as false: {text}"
            if name is not None:
                return f"condition '{name}' of conditional '{conditional.name}' was false"
        return None

    def _parked(self, node: Node, report: BlockReport, not_yet: NotYet) -> BlockReport:
        """Wait for the next look without spending a try; the block's timeout counts from the first look."""
        now = self._clock()
        retry_at = now + timedelta(seconds=not_yet.seconds)
        if node.block.timeout_seconds is not None and node.first_started_at is not None:
            deadline = node.first_started_at + timedelta(seconds=node.block.timeout_seconds)
            if now >= deadline:
                return self._out_of_time(node, report, not_yet)
            retry_at = min(retry_at, deadline)
        node.was_parked = True
        parked = dataclasses.replace(report, attempt=node.attempt - 1, reason=str(not_yet), retry_at=retry_at)
        return self._ended(parked, State.WAITING)

    def _out_of_time(self, node: Node, report: BlockReport, not_yet: NotYet) -> BlockReport:
        error = OutOfTime(
            f"block {node.name!r} waited longer than its timeout of {node.block.timeout_seconds:g} s, "
            f"and what it waits for did not come: {not_yet}"
        )
        with self._logs.of_block(node.name, node.attempt) as log:
            return self._failed(node, report, error, log)

    def _failed(
        self,
        node: Node,
        report: BlockReport,
        error: BaseException,
        log: BlockLog,
        seen: Sequence[Any] = (),
    ) -> BlockReport:
        log.message("error", user_traceback(error, self._root))
        text = describe(error, self._root) + _note_on_missing_inputs(node)
        delay = None if isinstance(error, TerminalError) else node.block.retry.delay_after(node.attempt)
        if delay is not None:
            waiting = dataclasses.replace(report, retry_at=self._clock() + delay)
            return self._ended(waiting, State.WAITING, error=text)
        self._call_back(node, BlockEnding("failure", inputs=seen, error=error), log)
        return self._ended(report, State.FAILED, error=text)

    def _call_back(self, node: Node, ending: BlockEnding, log: BlockLog) -> None:
        """Call all callbacks of a block. What goes wrong in one is logged, and changes nothing else."""
        for callback in self._callbacks.get(node.declared, ()):
            try:
                self._blocks.call_back(node, callback, ending)
            except BaseException as error:  # sys.exit() as well
                told = user_traceback(error, self._root)
                log.message("error", f"callback '{callback.name}' ({callback.path}): {told}")

    def _ended(self, report: BlockReport, state: State, **more: Any) -> BlockReport:
        return dataclasses.replace(report, state=state, finished_at=self._clock(), **more)


def _by_guarded(add_ons: Sequence[Block]) -> Mapping[str, list[Block]]:
    found: dict[str, list[Block]] = defaultdict(list)
    for add_on in add_ons:
        for name in add_on.upstream:
            found[name].append(add_on)
    return found


def _note_on_missing_inputs(node: Node) -> str:
    empty = [repr(upstream.name) for upstream in node.upstream if upstream.returned_nothing]
    if not empty:
        return ""
    names = ", ".join(empty)
    return f" (its upstream block {names} returned nothing, so that input is None; is a `return` missing?)"
