"""`millrace events replay`: stored events are done again, or it is shown what that would start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from service.cli.opened import opened
from service.cli.options import Id, Moment, json_option, project_option
from service.cli.output import console, print_json, styled
from service.matching.replaying import Narrowed
from service.replays import MOST_EVENTS, Change, Replay, Replays, Start, Wish
from service.runtime import build_dispatcher
from service.store.event_reading import EventFilters
from service.store.values import Outcome
from service.web.replay_shapes import ReplayJson

ASKS_ABOVE = 10  # more events than these are not done again without a word


@click.command()
@click.argument("event_ids", metavar="[EVENT_ID]...", type=Id("one of `millrace events list`"), nargs=-1)
@click.option("--pipeline", help="Only events that concerned this pipeline, and only for its triggers.")
@click.option("--trigger", help="Only for triggers of this name; without ids, only events that concerned it.")
@click.option(
    "--outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Only with this outcome."
)
@click.option("--source", help="Only of this source, e.g. webhook:taxi/from_api.")
@click.option("--since", type=Moment(), metavar="TIME", help="Received at this time or later.")
@click.option("--until", type=Moment(), metavar="TIME", help="Received before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_EVENTS),
    default=100,
    show_default=True,
    help="The first that fit, oldest first.",
)
@click.option("--dry-run", is_flag=True, help="Show what each would start and what differs; write nothing.")
@click.option("--yes", is_flag=True, help=f"Do not ask before more than {ASKS_ABOVE} events are done again.")
@project_option
@json_option
def replay(
    event_ids: tuple[str, ...],
    pipeline: str | None,
    trigger: str | None,
    outcome: str | None,
    source: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    dry_run: bool,
    yes: bool,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Do events again: named ones, or those that fit the options (which leave out replays).

    Each becomes a new event with `replay_of`. It is read from the bytes that came, and decided upon by the
    triggers as they are now. Its runs are for the time when the first event came. A service that serves this
    project takes them. Exits with 1 when an event could not be done again.
    """
    filters = EventFilters(
        pipeline=pipeline,
        trigger=trigger,
        outcome=Outcome(outcome) if outcome else None,
        source=source,
        since=since,
        until=until,
    )
    _check_use(event_ids, filters)
    with opened(projects) as runtime:
        replays = Replays(runtime.database, build_dispatcher(runtime))
        wish = Wish(event_ids, filters, Narrowed(pipeline, trigger), limit)
        found = replays.preview(wish)
        if not dry_run and found:
            _ask(found, is_sure=yes)
            # What was looked at is done, also when more events have come meanwhile.
            found = replays.perform(Wish(tuple(one.event_id for one in found), only=wish.only))
    if as_json:
        items = [ReplayJson.of(one).model_dump(mode="json") for one in found]
        print_json({"items": items, "next": None})
    else:
        _tell(found, is_dry=dry_run)
    if any(one.error for one in found):
        raise click.exceptions.Exit(1)


def _check_use(event_ids: Sequence[str], filters: EventFilters) -> None:
    beyond_triggers = EventFilters(pipeline=filters.pipeline, trigger=filters.trigger)
    if event_ids and filters != beyond_triggers:
        raise click.UsageError("give ids of events or filters, not both; --trigger goes with either")
    if not event_ids and filters == EventFilters():
        raise click.UsageError("say which events: give their ids, or filters such as --since and --trigger")


def _ask(found: Sequence[Replay], *, is_sure: bool) -> None:
    count = sum(one.error is None for one in found)
    if count > ASKS_ABOVE and not is_sure:
        click.confirm(f"Do {count} events again?", abort=True, err=True)


def _tell(found: Sequence[Replay], *, is_dry: bool) -> None:
    if not found:
        click.echo("No event fits these options.", err=True)
        return
    for one in found:
        _tell_one(one)
    failed = sum(one.error is not None for one in found)
    done = f"{len(found) - failed} events {'would be' if is_dry else 'are'} done again"
    click.echo(f"{done}, {failed} cannot be" if failed else done, err=True)


def _tell_one(one: Replay) -> None:
    out = console()
    if one.error is not None:
        click.echo(f"Error: {one.error}", err=True)
        return
    arrow = f" -> {one.replay_id}" if one.replay_id else ""
    out.print(Text.assemble((one.event_id + arrow, "bold"), "  ", styled(one.outcome)))
    for start in one.starts:
        _tell_start(start)


def _tell_start(start: Start) -> None:
    out = console()
    reason = f": {start.reason}" if start.reason else ""
    run = f"  run {start.run_id}" if start.run_id else ""
    out.print(Text.assemble(f"  {start.pipeline}/{start.trigger}  ", styled(start.outcome), f"{reason}{run}"))
    if start.variables is None:
        return
    if not start.has_last_time:
        out.print(Text(f"    {_shown(start.variables)} (it had no run before)"))
    elif not start.changes:
        out.print(Text("    the same variables as last time", style="dim"))
    for change in start.changes:
        out.print(Text(f"    {change.name}: {_before(change)} -> {_now(change)}"))


def _before(change: Change) -> str:
    return _shown(change.before) if change.was_there else "(not there)"


def _now(change: Change) -> str:
    return _shown(change.now) if change.is_there else "(not there)"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
