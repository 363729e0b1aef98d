"""Applies what engines report. Only the holder of a run's present claim can change anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, insert, or_, select, tuple_, update

from service.store import limits
from service.store.database import Transaction
from service.store.tables import block_runs, run_logs, runs
from service.store.values import (
    BlockEnded,
    BlockExpanded,
    BlockStarted,
    BlockState,
    LogLine,
    LogLines,
    Report,
    RunEnded,
    RunState,
)

_OPEN_BLOCKS = [BlockState.QUEUED, BlockState.RUNNING, BlockState.WAITING]

# Not by IN, whose list cannot be expanded for many runs at once.
_IS_OPEN = or_(*(block_runs.c.state == state for state in _OPEN_BLOCKS))
_RUN_ID: BindParameter[str] = bindparam("the_run")
_LOCK = (
    select(
        runs.c.id, runs.c.claim, runs.c.state, runs.c.cancel_requested, runs.c.limits,
        runs.c.log_seq, runs.c.log_bytes,
    )
    .where(runs.c.id.in_(bindparam("run_ids", expanding=True)))
    .order_by(runs.c.id)
    .with_for_update()
)  # fmt: skip
_OF_BLOCK = (block_runs.c.run_id == _RUN_ID) & (block_runs.c.name == bindparam("the_block"))
_START = (
    update(block_runs)
    .where(_OF_BLOCK)
    .values(
        state=BlockState.RUNNING,
        attempt=bindparam("tries"),
        started_at=bindparam("at"),
        finished_at=None,
        error=None,
        reason=None,
        retry_at=None,
        first_started_at=func.coalesce(block_runs.c.first_started_at, bindparam("at")),
    )
)
_CONTROLLERS = select(block_runs.c.run_id, block_runs.c.name, block_runs.c.position, block_runs.c.type).where(
    tuple_(block_runs.c.run_id, block_runs.c.name).in_(bindparam("expanded", expanding=True))
)
_CHILDREN_THERE = select(block_runs.c.run_id, block_runs.c.name).where(
    tuple_(block_runs.c.run_id, block_runs.c.parent).in_(bindparam("expanded", expanding=True))
)
_INSERT_CHILDREN = insert(block_runs)
_END = (
    update(block_runs)
    .where(_OF_BLOCK)
    .values(
        state=bindparam("new_state"),
        attempt=bindparam("tries"),
        deaths=bindparam("new_deaths"),
        finished_at=bindparam("at"),
        rows=bindparam("new_rows"),
        error=bindparam("new_error"),
        retry_at=bindparam("due"),
        checkpoint=bindparam("stored"),
        volatile=bindparam("is_volatile"),
        reason=bindparam("new_reason"),
        killed=bindparam("was_killed"),
    )
)
_LEAVE = (
    update(runs)
    .where(runs.c.id == _RUN_ID)
    .values(
        state=bindparam("new_state"),
        error=bindparam("new_error"),
        available_at=bindparam("due"),
        finished_at=bindparam("at"),
        engine_id=None,
        lease_until=None,
    )
)
_INTERRUPT_BLOCKS = (
    update(block_runs)
    .where(block_runs.c.run_id == _RUN_ID, block_runs.c.state == BlockState.RUNNING)
    .values(state=BlockState.QUEUED, started_at=None, attempt=block_runs.c.attempt - 1)
)
_CANCEL_BLOCKS = (
    update(block_runs)
    .where(block_runs.c.run_id == _RUN_ID, _IS_OPEN)
    .values(state=BlockState.CANCELLED, finished_at=bindparam("at"), retry_at=None)
)
_COUNT_LOGS = (
    update(runs).where(runs.c.id == _RUN_ID).values(log_seq=bindparam("seq"), log_bytes=bindparam("size"))
)
_INSERT_LOGS = insert(run_logs)


@dataclass(frozen=True, slots=True)
class LogCap:
    """How much log a run may leave; the line that would pass it becomes a notice, later ones are dropped."""

    lines: int = 50_000
    bytes: int = 20 * 1024 * 1024


DEFAULT_LOG_CAP = LogCap()


@dataclass(slots=True)
class _Step:
    """Reports that can be written together: of each block at most one start, followed by one end."""

    started: dict[tuple[str, str], BlockStarted] = field(default_factory=dict)
    ended: dict[tuple[str, str], BlockEnded] = field(default_factory=dict)


@dataclass(slots=True)
class _Held:
    """A locked run, as the reports of this batch change it."""

    claim: int
    limited: bool
    is_running: bool
    is_to_cancel: bool
    log_seq: int
    log_bytes: int


@dataclass(slots=True)
class _Batch:
    """What a batch of reports comes down to, by kind of statement."""

    expanded: dict[tuple[str, str], BlockExpanded] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    ended: dict[str, RunEnded] = field(default_factory=dict)
    lines: dict[str, list[LogLine]] = field(default_factory=lambda: defaultdict(list))

    def add(self, report: Report) -> None:
        match report:
            case BlockExpanded():
                self.expanded[report.run_id, report.block] = report
                start = BlockStarted(report.run_id, report.claim, report.block, report.attempt, report.at)
                self.add(start)
            case BlockStarted():
                self._step_of(report, is_start=True).started[report.run_id, report.block] = report
            case BlockEnded():
                self._step_of(report, is_start=False).ended[report.run_id, report.block] = report
            case RunEnded():
                self.ended[report.run_id] = report
            case LogLines():
                self.lines[report.run_id].extend(report.lines)

    def _step_of(self, report: BlockStarted | BlockEnded, *, is_start: bool) -> _Step:
        """Return the first step after everything that this block did before in the batch."""
        key = (report.run_id, report.block)
        last = max(
            (n for n, step in enumerate(self.steps) if key in step.started or key in step.ended), default=-1
        )
        if last >= 0 and not is_start and key not in self.steps[last].ended:
            return self.steps[last]
        if last + 1 == len(self.steps):
            self.steps.append(_Step())
        return self.steps[last + 1]


def apply(tx: Transaction, reports: Sequence[Report], *, log_cap: LogCap = DEFAULT_LOG_CAP) -> list[bool]:
    """Apply reports in their order; False for one whose claim no longer holds.

    Notifies "run:<id>" for each run that left its engine, and "queued" where it went back to the queue.
    """
    held = _locked(tx, sorted({report.run_id for report in reports}))
    batch = _Batch()
    answers = []
    for report in reports:
        run = held.get(report.run_id)
        is_valid = run is not None and run.is_running and run.claim == report.claim
        answers.append(is_valid)
        if run is not None and is_valid:
            batch.add(report)
            run.is_running = not isinstance(report, RunEnded)
    _write_children(tx, batch.expanded)
    for step in batch.steps:
        _write_step(tx, step)
    _write_logs(tx, batch.lines, held, log_cap)
    _write_ends(tx, list(batch.ended.values()), held)
    return answers


def _locked(tx: Transaction, run_ids: Sequence[str]) -> dict[str, _Held]:
    rows = tx.connection.execute(_LOCK, {"run_ids": run_ids})
    return {
        run_id: _Held(claim, bool(limited), state == RunState.RUNNING, cancel_requested, log_seq, log_bytes)
        for run_id, claim, state, cancel_requested, limited, log_seq, log_bytes in rows
    }


def _write_step(tx: Transaction, step: _Step) -> None:
    if step.started:
        tx.connection.execute(
            _START,
            [
                {"the_run": run_id, "the_block": block, "tries": report.attempt, "at": report.at}
                for (run_id, block), report in sorted(step.started.items())
            ],
        )
    if step.ended:
        tx.connection.execute(_END, [_end_values(report) for _, report in sorted(step.ended.items())])


def _write_children(tx: Transaction, expanded: Mapping[tuple[str, str], BlockExpanded]) -> None:
    """Give children their rows, where an earlier claim has not: what those say still holds."""
    if not expanded:
        return
    keys = {"expanded": sorted(expanded)}
    known = {(row.run_id, row.name) for row in tx.connection.execute(_CHILDREN_THERE, keys)}
    rows = [
        {
            "run_id": controller.run_id,
            "name": name,
            "position": controller.position,
            "type": controller.type,
            "state": BlockState.QUEUED.value,
            "attempt": 0,
            "deaths": 0,
            "volatile": False,
            "parent": controller.name,
            "item": number,
        }
        for controller in tx.connection.execute(_CONTROLLERS, keys)
        for name, number in expanded[controller.run_id, controller.name].children
        if (controller.run_id, name) not in known
    ]
    if rows:
        tx.connection.execute(_INSERT_CHILDREN, rows)


def _end_values(report: BlockEnded) -> dict[str, Any]:
    is_open = report.state in _OPEN_BLOCKS
    return {
        "the_run": report.run_id,
        "the_block": report.block,
        "new_state": report.state.value,
        "tries": report.attempt,
        "new_deaths": report.deaths,
        "at": None if is_open else report.at,
        "new_rows": report.rows,
        "new_error": report.error,
        "due": report.retry_at,
        "stored": report.checkpoint,
        "is_volatile": report.volatile,
        "new_reason": report.reason,
        "was_killed": report.killed,
    }


def _write_ends(tx: Transaction, ends: list[RunEnded], held: dict[str, _Held]) -> None:
    if not ends:
        return
    ends = sorted((_as_wished(end, held[end.run_id]) for end in ends), key=lambda end: end.run_id)
    tx.connection.execute(_LEAVE, [_leave_values(end) for end in ends])
    over = [{"the_run": end.run_id, "at": end.at} for end in ends
            if end.state in (RunState.FAILED, RunState.CANCELLED)]  # fmt: skip
    if over:
        tx.connection.execute(_CANCEL_BLOCKS, over)
    unfinished = [{"the_run": end.run_id} for end in ends if not end.state.is_final]
    if unfinished:
        # No block of a run that nobody executes is running, whatever the engine forgot to say.
        tx.connection.execute(_INTERRUPT_BLOCKS, unfinished)
    limited = [end for end in ends if held[end.run_id].limited]
    limits.leave(
        tx,
        final=[end.run_id for end in limited if end.state.is_final],
        waiting=[end.run_id for end in limited if end.state is RunState.WAITING],
    )
    limits.let_go(tx, [end.run_id for end in limited if end.state is RunState.QUEUED])
    for end in ends:
        tx.notify("queued" if end.state is RunState.QUEUED else f"run:{end.run_id}")


def _as_wished(end: RunEnded, run: _Held) -> RunEnded:
    """Let a run that leaves its engine before its end be cancelled, when that was asked for meanwhile.

    Nobody would look at the wish again before the next claim, which may be hours away.
    """
    if run.is_to_cancel and not end.state.is_final:
        return replace(end, state=RunState.CANCELLED, error="cancelled on request", available_at=None)
    return end


def _leave_values(end: RunEnded) -> dict[str, Any]:
    return {
        "the_run": end.run_id,
        "new_state": end.state.value,
        "new_error": end.error,
        "due": end.available_at,
        "at": end.at if end.state.is_final else None,
    }


def _write_logs(
    tx: Transaction, lines: dict[str, list[LogLine]], held: dict[str, _Held], cap: LogCap
) -> None:
    rows: list[dict[str, Any]] = []
    counts = []
    for run_id, new in sorted(lines.items()):
        run = held[run_id]
        rows += _log_rows(run_id, run, new, cap)
        counts.append({"the_run": run_id, "seq": run.log_seq, "size": run.log_bytes})
    if rows:
        tx.connection.execute(_INSERT_LOGS, rows)
        tx.connection.execute(_COUNT_LOGS, counts)


def _log_rows(run_id: str, run: _Held, new: Sequence[LogLine], cap: LogCap) -> list[dict[str, Any]]:
    """Number the lines as far as the cap allows."""
    rows = []
    for line in new:
        if run.log_seq > cap.lines or run.log_bytes > cap.bytes:
            break
        run.log_seq += 1
        run.log_bytes += len(line.text) + 1
        is_over = run.log_seq > cap.lines or run.log_bytes > cap.bytes
        rows.append(_log_row(run_id, run.log_seq, _notice(line) if is_over else line))
    return rows


def _log_row(run_id: str, seq: int, line: LogLine) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "seq": seq,
        "at": line.at,
        "level": line.level,
        "block": line.block,
        "attempt": line.attempt,
        "text": line.text,
    }


def _notice(line: LogLine) -> LogLine:
    text = "The log of this run has reached its cap; what follows is not kept."
    return LogLine(0, line.at, "warning", text)
