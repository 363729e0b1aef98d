"""Watches a run until it is finished: a live table on a terminal, one stable line per change otherwise."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from service.cli.output import console, duration, styled, table, when
from service.errors import NotFound
from service.runtime import Runtime
from service.store import runs
from service.store.values import BlockRun, BlockState, Run, RunState

_SHOWN_CHILDREN = 20  # of one block; of more only counts are shown
_LOOK_SECONDS = 0.2  # how often block states are read; the end of the run wakes us at once


class View(Protocol):
    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, run: Run) -> None: ...


def view_for(*, as_json: bool, clock: Callable[[], datetime]) -> View:
    """Return the view that fits where the output goes."""
    if as_json:
        return SilentView()
    return LiveView(clock) if sys.stderr.isatty() and sys.stdout.isatty() else LineView()


def follow(runtime: Runtime, run_id: str, view: View) -> Run:
    """Show the run until it is final and return it. Raises NotFound when there is none."""
    news = threading.Event()

    def on_topic(topic: str) -> None:
        if topic == f"run:{run_id}":
            news.set()

    with runtime.wakeups.subscribe(on_topic), view:
        while True:
            run = glance(runtime, run_id)
            view.show(run)
            if run.state.is_final:
                return find_run(runtime, run_id)
            news.wait(_LOOK_SECONDS)
            news.clear()


def glance(runtime: Runtime, run_id: str) -> Run:
    """Return the run with its blocks, children of dynamic blocks only counted. Raises NotFound."""
    with runtime.database.read() as connection:
        run = runs.glance(connection, run_id)
    if run is None:
        raise NotFound("run", run_id)
    return run


def find_run(runtime: Runtime, run_id: str) -> Run:
    """Return the run with all of its blocks. Raises NotFound."""
    with runtime.database.read() as connection:
        run = runs.get(connection, run_id)
    if run is None:
        raise NotFound("run", run_id)
    return run


class SilentView:
    """For `--json`, where only the end counts."""

    def __enter__(self) -> SilentView:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, run: Run) -> None:
        """Show nothing."""


class LineView:
    """One line per change, the same today and tomorrow, for logs and scripts."""

    def __init__(self) -> None:
        self._run_state: RunState | None = None
        self._block_states: dict[str, tuple[BlockState, int]] = {}

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, run: Run) -> None:
        if self._run_state is None:
            click.echo(f"run {run.id} pipeline={run.pipeline} execution_date={when(run.execution_date)}")
        if run.state is RunState.RUNNING:
            self._show_state(run)
        for block in run.blocks:
            self._show_block(block)
        self._show_state(run)  # of a run that waits or is finished, after its blocks

    def _show_state(self, run: Run) -> None:
        if run.state is not self._run_state:
            self._run_state = run.state
            click.echo(f"run {run.state}{_detail(run)}")

    def _show_block(self, block: BlockRun) -> None:
        seen = (block.state, block.attempt)
        if block.state is BlockState.QUEUED or self._block_states.get(block.name) == seen:
            return
        self._block_states[block.name] = seen
        facts = [f"block {block.name} {block.state}", f"attempt={block.attempt}"]
        if block.rows is not None:
            facts.append(f"rows={block.rows}")
        if took := duration(block.started_at, block.finished_at):
            facts.append(f"took={took.replace(' ', '')}")
        if block.children:
            facts.append(f"children={_counted(block).replace(' ', '')}")
        if block.reason:
            facts.append(f"reason={_first_line(block.reason)}")
        if block.error:
            facts.append(f"error={_first_line(block.error)}")
        click.echo(" ".join(facts))


class LiveView:
    """A table that is drawn again while the run goes on."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._live = Live(console=console(), auto_refresh=False)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, run: Run) -> None:
        self._live.update(run_table(run, now=self._clock()), refresh=True)


def run_table(run: Run, *, now: datetime | None = None) -> Group:
    """Return the run as a heading, a row per block, and the error if there is one."""
    took = duration(run.started_at, run.finished_at or now)
    heading = Text.assemble(
        (run.pipeline, "bold"), "  ", styled(run.state), "  ", (took or "", "dim"), "  ", (run.id, "dim")
    )
    shown = _shown(run.blocks)
    rows = [_block_row(block, now) for block in shown]
    parts: list[object] = [heading]
    if rows:
        parts.append(table(("block", "state", "try", "rows", "took"), rows))
    parts.extend(
        Text(f"\n{block.name}: {block.error.strip()}", style="red")
        for block in shown
        if block.error and block.state is not BlockState.UPSTREAM_FAILED
    )
    if run.waits_for:
        parts.append(Text(f"\nwaits: {run.waits_for}", style="yellow"))
    if run.state is RunState.SUCCEEDED and run.failed_blocks:
        parts.append(Text(f"\n{run.failed_blocks} blocks failed, which this run allows", style="yellow"))
    if run.error and not any(block.error for block in run.blocks):
        parts.append(Text(f"\n{run.error.strip()}", style="red"))
    return Group(*parts)  # type: ignore[arg-type]  # rich's stubs do not know a list of renderables


def _shown(blocks: Sequence[BlockRun]) -> list[BlockRun]:
    """Leave out the children of blocks that have many, but for the first that failed."""
    many = {block.name for block in blocks if sum(block.children.values()) > _SHOWN_CHILDREN}
    failed: Counter[str] = Counter()
    shown = []
    for block in blocks:
        if block.parent in many:
            failed[block.parent] += block.state is BlockState.FAILED
            if block.state is not BlockState.FAILED or failed[block.parent] > runs.SHOWN_FAILURES:
                continue
        shown.append(block)
    return shown


def _block_row(block: BlockRun, now: datetime | None) -> tuple[object, ...]:
    end = block.finished_at or (now if block.state is BlockState.RUNNING else None)
    name = f"{block.name}  {_counted(block)}" if block.children else block.name
    return name, styled(block.state), block.attempt or None, block.rows, duration(block.started_at, end)


def _counted(block: BlockRun) -> str:
    """Return how many children a block has in each state: `998 succeeded, 2 failed`."""
    return ", ".join(f"{count} {state}" for state, count in sorted(block.children.items()))


def _detail(run: Run) -> str:
    if run.state is RunState.WAITING and run.available_at is not None:
        return f" until={when(run.available_at)}" + (f" for={run.waits_for}" if run.waits_for else "")
    took = duration(run.started_at, run.finished_at)
    facts = f" took={took.replace(' ', '')}" if took else ""
    return f"{facts} error={_first_line(run.error)}" if run.error else facts


def _first_line(text: str) -> str:
    """Return the line that says most: of a traceback that is the last one."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
