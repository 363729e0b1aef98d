"""`millrace runs`: look at runs, and cancel or retry them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from service.cli.follow import find_run, follow, run_table, view_for
from service.cli.opened import opened
from service.cli.options import Moment, cursor_option, json_option, project_option
from service.cli.output import console, duration, print_fields, print_json, print_table, styled, when
from service.runtime import Runtime
from service.store import logs as log_store
from service.store import runs as run_store
from service.store.session import Commit
from service.store.values import LogLine, Run, RunState
from service.web.schemas import LogLineJson, run_json

_LOG_PAGE = 1000
_LOG_LOOK_SECONDS = 0.3


@click.group()
def runs() -> None:
    """List, show, watch, cancel and retry runs, and read their logs."""


@runs.command("list")
@click.option("--pipeline", help="Only of this pipeline.")
@click.option("--trigger", help="Only of this trigger.")
@click.option("--state", type=click.Choice([str(state) for state in RunState]), help="Only in this state.")
@click.option("--parent", metavar="RUN", help="Only runs that blocks of this run started.")
@click.option("--since", type=Moment(), metavar="TIME", help="Created at this time or later.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@cursor_option
@project_option
@json_option
def list_runs(
    pipeline: str | None,
    trigger: str | None,
    state: str | None,
    parent: str | None,
    since: datetime | None,
    limit: int,
    cursor: str | None,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """List runs, newest first."""
    filters = run_store.RunFilters(
        pipeline=pipeline,
        trigger=trigger,
        parent_run_id=parent,
        states=(RunState(state),) if state else (),
        since=since,
    )
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = run_store.listing(connection, filters, limit=limit + 1, after_id=cursor)
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    if as_json:
        print_json({"items": [run_json(run) for run in page], "next": following})
        return
    print_table(
        ("run", "pipeline", "state", "trigger", "created", "took"),
        [_row(run) for run in page],
        empty="No runs yet. `millrace run PIPELINE` makes one."
        if filters == run_store.RunFilters()
        else "No run fits these options.",
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


@runs.command()
@click.argument("run_id")
@project_option
@json_option
def show(run_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Show one run with its blocks."""
    with opened(projects) as runtime:
        run = find_run(runtime, run_id)
        with runtime.database.read() as connection:
            children = run_store.listing(connection, run_store.RunFilters(parent_run_id=run_id))
    if as_json:
        print_json(run_json(run))
        return
    print_fields(
        (
            ("run", run.id),
            ("project", run.project),
            ("trigger", run.trigger),
            ("event", run.event_id),
            ("started by run", run.parent_run_id),
            ("execution date", run.execution_date),
            ("variables", dict(run.variables)),
            ("blocks chosen", list(run.selection)),
            ("attempt", run.attempt if run.attempt > 1 else None),
            ("created", run.created_at),
            ("waiting until", run.available_at if run.state is RunState.WAITING else None),
        )
    )
    console().print(run_table(run))
    if children:
        console().print("\nruns that its blocks started")
        rows = [(child.id, child.pipeline, styled(child.state)) for child in reversed(children)]
        print_table(("run", "pipeline", "state"), rows, empty="")


@runs.command()
@click.argument("run_id")
@project_option
@json_option
def watch(run_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Watch a run until it is finished. Exits with 1 unless it succeeds."""
    with opened(projects) as runtime:
        runtime.wakeups.start()
        run = follow(runtime, run_id, view_for(as_json=as_json, clock=runtime.clock))
    if as_json:
        print_json(run_json(run))
    if run.state is not RunState.SUCCEEDED:
        raise click.exceptions.Exit(1)


@runs.command()
@click.argument("run_id")
@project_option
@json_option
def cancel(run_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Cancel a run. One that is running is stopped by its engine, a moment later."""
    with opened(projects) as runtime:
        find_run(runtime, run_id)
        run = runtime.database.write(Commit.CANCEL, lambda tx: run_store.cancel(tx, run_id))
    _tell(run, "cancelled" if run.state is RunState.CANCELLED else "cancel requested", as_json=as_json)


@runs.command()
@click.argument("run_id")
@project_option
@json_option
def retry(run_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Run a failed or cancelled run again from where it stopped, with the code it began with.

    Finished blocks are kept. To run the code as it is now, start a new run: millrace run PIPELINE.

    The run is queued: a service that serves this project takes it.
    """
    with opened(projects) as runtime:
        find_run(runtime, run_id)
        run = runtime.database.write(Commit.RETRY, lambda tx: run_store.retry(tx, run_id))
    _tell(run, "queued again; a running service takes it", as_json=as_json)


@runs.command()
@click.argument("run_id")
@click.option("--block", help="Only of this block.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="This level and the more severe ones.",
)
@click.option("--grep", "contains", metavar="TEXT", help="Only lines that contain this text.")
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on until the run is finished.")
@project_option
@json_option
def logs(
    run_id: str,
    block: str | None,
    level: str | None,
    contains: str | None,
    is_followed: bool,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print the log of a run. With --json each line is an object of its own."""
    with opened(projects) as runtime:
        _check_block(find_run(runtime, run_id), block)
        filters = {"block": block, "level": level, "contains": contains}
        for line in _lines(runtime, run_id, filters, is_followed=is_followed):
            click.echo(LogLineJson.of(line).model_dump_json() if as_json else _text(line))


def _check_block(run: Run, block: str | None) -> None:
    known = [one.name for one in run.blocks]
    if block is not None and known and block not in known:
        raise click.UsageError(f"run {run.id} has no block {block!r}; it has: {', '.join(known)}")


def _lines(runtime: Runtime, run_id: str, filters: dict[str, Any], *, is_followed: bool) -> Iterator[LogLine]:
    after = 0
    while True:
        # The state is read before the lines: a run that is final by then writes no more of them.
        is_over = not is_followed or find_run(runtime, run_id).state.is_final
        with runtime.database.read() as connection:
            page = log_store.read(connection, run_id, **filters, after_seq=after, limit=_LOG_PAGE)
        yield from page
        if page:
            after = page[-1].seq
        if len(page) == _LOG_PAGE:
            continue
        if is_over:
            return
        time.sleep(_LOG_LOOK_SECONDS)


def _text(line: LogLine) -> str:
    return f"{when(line.at)} {line.level:<7} {line.block or '-'}  {line.text}"


def _row(run: Run) -> tuple[Any, ...]:
    took = duration(run.started_at, run.finished_at)
    return run.id, run.pipeline, styled(run.state), run.trigger, when(run.created_at), took


def _tell(run: Run, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(run_json(run))
    else:
        click.echo(f"run {run.id} {what}")
