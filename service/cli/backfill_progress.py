"""Watches a backfill until it is over: a bar on a terminal, one line per change otherwise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Protocol

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.cli.output import console
from service.runtime import Runtime
from service.store import backfills
from service.store.backfills import Backfill, BackfillState
from service.web.health import NO_ENGINE, engine_is_alive

LOOK_SECONDS = 0.5  # the end of a run wakes us at once
_OPEN = ("pending", "queued", "waiting", "running", "submitted")
_NOT_COUNTED = ("skipped",)  # nothing is waited for


class View(Protocol):
    def __enter__(self) -> View: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, counts: Mapping[str, int], left: timedelta | None) -> None: ...


def wait_for(runtime: Runtime, backfill: Backfill, *, is_silent: bool) -> Backfill:
    """Show the backfill until nothing of it is open, and return it. It goes on when this is interrupted."""
    if not engine_is_alive(runtime):
        click.echo(NO_ENGINE, err=True)
    runtime.wakeups.start()
    news = threading.Event()

    def on_topic(topic: str) -> None:
        if topic == backfills.TOPIC or topic.startswith("run:"):
            news.set()

    try:
        with runtime.wakeups.subscribe(on_topic), _view(is_silent=is_silent) as view:
            while True:
                found, counts, mean = _read(runtime, backfill.id)
                view.show(counts, _left(found, counts, mean))
                if _is_over(found, counts):
                    return found
                news.wait(LOOK_SECONDS)
                news.clear()
    except KeyboardInterrupt:
        click.echo(f"the backfill goes on: millrace backfills show {backfill.id}", err=True)
        raise


def _read(runtime: Runtime, backfill_id: str) -> tuple[Backfill, Mapping[str, int], float | None]:
    with runtime.database.read() as connection:
        found = backfills.get(connection, backfill_id)
        counts = backfills.counts(connection, [backfill_id])[backfill_id]
        mean = backfills.mean_seconds(connection, backfill_id)
    if found is None:
        raise click.ClickException(f"backfill {backfill_id} was deleted")
    return found, counts, mean


def _is_over(found: Backfill, counts: Mapping[str, int]) -> bool:
    """Tell whether nothing more happens by itself. One that stopped has its last runs to wait for."""
    if found.state is BackfillState.FINISHED:
        return True
    is_running = any(counts.get(state) for state in _OPEN if state != "pending")
    return found.state in (BackfillState.STOPPED, BackfillState.CANCELLED) and not is_running


def _left(found: Backfill, counts: Mapping[str, int], mean: float | None) -> timedelta | None:
    """Estimate the time that is left, from how long runs took so far."""
    slots = sum(counts.get(state, 0) for state in _OPEN)
    if mean is None or not slots or found.state is not BackfillState.RUNNING:
        return None
    slots_of_run = found.spec.get("chunk") or 1
    return timedelta(seconds=round(mean * slots / slots_of_run / found.concurrency))


def _view(*, is_silent: bool) -> View:
    if is_silent:
        return SilentView()
    return BarView() if sys.stderr.isatty() else LineView()


def _done(counts: Mapping[str, int]) -> tuple[int, int]:
    total = sum(number for state, number in counts.items() if state not in _NOT_COUNTED)
    return total - sum(counts.get(state, 0) for state in _OPEN), total


def _counted(counts: Mapping[str, int]) -> str:
    return " ".join(f"{state}={number}" for state, number in sorted(counts.items()))


class SilentView:
    """For `--json`, where only the end counts."""

    def __enter__(self) -> SilentView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, counts: Mapping[str, int], left: timedelta | None) -> None:
        """Show nothing."""


class LineView(SilentView):
    """One line per change, for logs and scripts."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, counts: Mapping[str, int], left: timedelta | None) -> None:
        done, total = _done(counts)
        line = f"slots {done}/{total} {_counted(counts)}"
        if line != self._last:
            self._last = line
            click.echo(f"{line} left={left}" if left is not None else line, err=True)


class BarView:
    """A bar with the counts of every state."""

    def __init__(self) -> None:
        self._progress = Progress(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}"),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console(stderr=True),
        )
        self._task = self._progress.add_task("", counts="", left="")

    def __enter__(self) -> BarView:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, counts: Mapping[str, int], left: timedelta | None) -> None:
        done, total = _done(counts)
        shown = f"about {left} left" if left is not None else ""
        self._progress.update(self._task, completed=done, total=total, counts=_counted(counts), left=shown)
