"""`millrace backfill`: many runs of a pipeline, over a range of dates or over stored events."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from service.backfills.preview import Preview
from service.backfills.request import (
    CONCURRENCY,
    MOST_AT_ONCE,
    MOST_IN_CHUNK,
    BackfillError,
    Dates,
    Events,
    Order,
    Reprocess,
    Request,
    moment_of,
)
from service.backfills.slots import SlotError
from service.backfills.submitting import Backfills, NothingToRun
from service.cli.backfill_progress import wait_for
from service.cli.opened import opened, pipeline_called, typed_variables
from service.cli.options import Moment, json_option, project_option, var_option
from service.cli.output import console, print_json, styled, table, when
from service.runtime import Runtime, build_dispatcher
from service.store.backfills import Backfill, BackfillState, Place
from service.store.values import Outcome
from service.web.backfill_shapes import BackfillJson, PreviewJson

ASKS_ABOVE = 10  # more runs than these are not begun from a terminal without a word


class DateOrTime(click.ParamType[date]):
    """A date, or an ISO 8601 time; without a zone it is local time of the backfill's zone."""

    name = "date"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> date | datetime:
        if isinstance(value, date):
            return value
        try:
            return moment_of(str(value))
        except BackfillError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("pipeline")
@click.option("--start", type=DateOrTime(), metavar="DATE", help="The first slot begins here.")
@click.option("--end", type=DateOrTime(), metavar="DATE", help="Included: a date means all of that day.")
@click.option("--every", metavar="STEP", help="How long a slot is: 15m, 1h, 1d, 1w, 1mo, 1y.")
@click.option("--trigger", help="Take its variables, and its schedule where --every is not given.")
@click.option("--timezone", help="Where days begin. [default: the trigger's, else UTC]")
@click.option("--events", is_flag=True, help="Over stored events of --trigger: each is done again.")
@click.option("--since", type=Moment(), metavar="TIME", help="With --events: received at this time or later.")
@click.option("--until", type=Moment(), metavar="TIME", help="With --events: received before this time.")
@click.option(
    "--outcome",
    type=click.Choice([str(outcome) for outcome in Outcome]),
    help="With --events: of which the trigger made this.",
)
@var_option
@click.option(
    "--reprocess",
    type=click.Choice([str(one) for one in Reprocess]),
    help="Run slots again that had a run: none, failed (and cancelled) ones, or all. What is in flight never "
    "is. [default: none; with --events: all]",
)
@click.option(
    "--order",
    type=click.Choice([str(one) for one in Order]),
    default="forward",
    show_default=True,
    help="Which slots go first: the oldest, or the newest.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_AT_ONCE),
    default=CONCURRENCY,
    show_default=True,
    help="How many of its runs are open at once.",
)
@click.option(
    "--chunk",
    type=click.IntRange(1, MOST_IN_CHUNK),
    default=1,
    show_default=True,
    help="Slots of one run, which gets them as the variable `slots`.",
)
@click.option("--limit", type=click.IntRange(1), help="Run at most so many slots.")
@click.option("--stop-after", type=click.IntRange(1), metavar="N", help="Stop after N failures.")
@click.option(
    "--dry-run", is_flag=True, help="Show every slot with what would happen and why; write nothing."
)
@click.option("--wait", is_flag=True, help="Wait for the end. Exits with 1 when something failed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
def backfill(
    pipeline: str,
    start: date | None,
    end: date | None,
    every: str | None,
    trigger: str | None,
    timezone: str | None,
    events: bool,
    since: datetime | None,
    until: datetime | None,
    outcome: str | None,
    variables: tuple[tuple[str, str], ...],
    reprocess: str | None,
    order: str,
    concurrency: int,
    chunk: int,
    limit: int | None,
    stop_after: int | None,
    dry_run: bool,
    wait: bool,
    yes: bool,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Run PIPELINE for every slot of a range of dates (the end included), or do stored events again.

    Slots that have a run already are skipped, unless --reprocess says otherwise. The runs come after those of
    triggers, and a service that serves this project takes them; `millrace backfills` lists and holds them.
    """
    over = _over((start, end, every), (since, until, Outcome(outcome) if outcome else None), events=events)
    with opened(projects) as runtime:
        project, declared = pipeline_called(runtime, pipeline)
        request = Request(
            place=Place(project.name, declared.name, trigger),
            over=over,
            timezone=timezone,
            variables=typed_variables(declared, variables),
            reprocess=Reprocess(reprocess) if reprocess else None,
            order=Order(order),
            concurrency=concurrency,
            chunk=chunk,
            limit=limit,
            stop_after=stop_after,
        )
        made = Backfills(runtime, build_dispatcher(runtime))
        preview = _previewed(made, request)
        if dry_run:
            _show(preview, as_json=as_json)
            return
        if not preview.runs:
            _tell_nothing(preview, as_json=as_json)
            return
        _ask(preview, is_sure=yes or as_json)
        submitted = made.submit(request, token=preview.token)
        if not as_json:
            click.echo(f"backfill {submitted.id}: {_sentence(preview)}", err=wait)
        ended = wait_for(runtime, submitted, is_silent=as_json) if wait else submitted
        _end(runtime, ended, as_json=as_json, is_waited=wait)


def _over(dates: Sequence[Any], chosen: Sequence[Any], *, events: bool) -> Dates | Events:
    start, end, every = dates
    if events:
        if any(one is not None for one in dates):
            raise click.UsageError(
                "--start, --end and --every are for dates; with --events give --since and --until"
            )
        return Events(*chosen)
    if any(one is not None for one in chosen):
        raise click.UsageError("--since, --until and --outcome need --events")
    if start is None or end is None:
        raise click.UsageError("give --start and --end, or --events")
    return Dates(start, end, every)


def _previewed(made: Backfills, request: Request) -> Preview:
    try:
        return made.preview(request)
    except (BackfillError, SlotError) as error:
        raise click.UsageError(str(error)) from error


def _ask(preview: Preview, *, is_sure: bool) -> None:
    if preview.runs > ASKS_ABOVE and not is_sure and sys.stdin.isatty():
        click.echo(_sentence(preview), err=True)
        click.confirm(f"Start {preview.runs} runs?", abort=True, err=True)


def _show(preview: Preview, *, as_json: bool) -> None:
    if as_json:
        print_json(PreviewJson.of(preview).model_dump(mode="json"))
        return
    rows = [
        (
            when(entry.start) or entry.event_id,
            when(entry.end),
            entry.status,
            styled("run" if entry.runs else "skip"),
            entry.chunk or None,
            entry.reason,
        )
        for entry in preview.entries
    ]
    console().print(table(("slot", "until", "is", "will", "run no.", "why"), rows))
    click.echo(_sentence(preview), err=True)


def _tell_nothing(preview: Preview, *, as_json: bool) -> None:
    if as_json:
        print_json(PreviewJson.of(preview).model_dump(mode="json"))
    else:
        click.echo(str(NothingToRun(preview)))


def _sentence(preview: Preview) -> str:
    counts = preview.counts
    said = f"{counts['run']} slots in {preview.runs} runs, {counts['skip']} skipped"
    ends = [(entry.start, entry.end) for entry in preview.entries if entry.start is not None]
    if not ends:
        return said
    first, last = min(ends), max(ends)
    whole = f"from {when(first[0])} to {when(last[1])}"
    return f"{said}; {whole}, the end included: the last slot is that of {when(last[0])}"


def _end(runtime: Runtime, backfill: Backfill, *, as_json: bool, is_waited: bool) -> None:
    with runtime.database.read() as connection:
        (described,) = BackfillJson.read(connection, [backfill])
    if as_json:
        print_json(described.model_dump(mode="json"))
    if not is_waited:
        return
    if not as_json:
        counted = ", ".join(f"{number} {state}" for state, number in sorted(described.counts.items()))
        click.echo(f"backfill {described.state}: {counted}")
    if described.state is not BackfillState.FINISHED or described.counts.get("failed"):
        raise click.exceptions.Exit(1)
