"""`millrace events`: what arrived, and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from service.cli.opened import opened
from service.cli.options import Id, Moment, cursor_option, json_option, project_option
from service.cli.outgoing import outgoing
from service.cli.output import console, print_fields, print_json, print_table, styled, table, when
from service.cli.replay import replay
from service.cli.tail import tail
from service.erasing import forget_event
from service.errors import NotFound
from service.store import events as event_store
from service.store import refused
from service.store.sightings import sightings_of
from service.store.values import Match, Outcome, StoredEvent
from service.web.schemas import EventJson, event_json, iso_time


@click.group()
def events() -> None:
    """List, show and follow events, do them again, forget them; list the deliveries that were refused."""


events.add_command(outgoing)
events.add_command(replay)
events.add_command(tail)


@events.command("list")
@click.option("--pipeline", help="Only events that concern this pipeline.")
@click.option("--trigger", help="Only events that concern this trigger.")
@click.option(
    "--outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Only with this outcome."
)
@click.option("--source", help="Only of this source, e.g. webhook:taxi/from_api.")
@click.option("--since", type=Moment(), metavar="TIME", help="Received at this time or later.")
@click.option("--until", type=Moment(), metavar="TIME", help="Received before this time.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@cursor_option
@project_option
@json_option
def list_events(
    pipeline: str | None,
    trigger: str | None,
    outcome: str | None,
    source: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """List events, newest first."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = event_store.listing(
            connection,
            pipeline=pipeline,
            trigger=trigger,
            outcome=Outcome(outcome) if outcome else None,
            source=source,
            since=since,
            until=until,
            limit=limit + 1,
            after_id=cursor,
        )
        page = found[:limit]
        sightings = sightings_of(connection, [event.id for event in page])
    following = page[-1].id if len(found) > limit else None
    if as_json:
        items = [EventJson.of(event, sightings=sightings.get(event.id)) for event in page]
        print_json({"items": [item.model_dump(mode="json") for item in items], "next": following})
        return
    print_table(
        ("event", "received", "source", "outcome", "runs", "reason"),
        [_row(event) for event in page],
        empty="No events yet. `millrace pipelines show NAME` prints the address of a webhook."
        if not any((pipeline, trigger, outcome, source, since, until))
        else "No event fits these options.",
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


@events.command()
@click.argument("event_id")
@project_option
@json_option
def show(event_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Show one event: its data, what each trigger made of it, and every delivery."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        event = event_store.get(connection, event_id)
    if event is None:
        raise NotFound("event", event_id)
    if as_json:
        print_json(event_json(event))
    else:
        _print(event)


@events.command()
@click.argument("event_id", type=Id("one of `millrace events list`"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
def forget(event_id: str, yes: bool, projects: tuple[Path, ...], as_json: bool) -> None:
    """Erase an event for ever: its data, its key, its replays, and what their runs kept of it.

    The runs stay as facts, without variables, logs and outputs. The same delivery would be new again.
    """
    with opened(projects) as runtime:
        if not yes:
            click.confirm(f"Erase event {event_id} for ever?", abort=True, err=True)
        run_ids = forget_event(runtime, event_id)
    if as_json:
        print_json({"event_id": event_id, "run_ids": run_ids})
    else:
        click.echo(f"event {event_id} is forgotten; {len(run_ids)} runs were emptied")


@events.command("refused")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--cursor", type=int, metavar="NUMBER", help="`next` of the page before.")
@project_option
@json_option
def list_refused(limit: int, cursor: int | None, projects: tuple[Path, ...], as_json: bool) -> None:
    """List deliveries that were refused, newest first, with the reason. They have no event."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = refused.listing(connection, limit=limit + 1, after_id=cursor)
    page = found[:limit]
    following = str(page[-1][0]) if len(found) > limit else None
    if as_json:
        items = [{**asdict(refusal), "at": iso_time(refusal.at)} for _, refusal in page]
        print_json({"items": items, "next": following})
        return
    print_table(
        ("at", "to", "from", "reason"),
        [(when(one.at), one.road, one.remote or None, one.reason) for _, one in page],
        empty="No delivery was refused.",
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


def _print(event: StoredEvent) -> None:
    print_fields(
        (
            ("event", event.id),
            ("project", event.project),
            ("source", event.source),
            ("key", event.key),
            ("type", event.type),
            ("subject", event.subject),
            ("time", event.time),
            ("received", event.received_at),
            ("outcome", styled(event.outcome)),
            ("reason", event.reason),
            ("replay of", event.replay_of),
            ("headers", dict(event.headers)),
            ("data", event.data),
        )
    )
    out = console()
    if event.matches:
        rows: list[tuple[Any, ...]] = [
            (f"{match.pipeline}/{match.trigger}", styled(match.outcome), match.run_id, _reason(match))
            for match in event.matches
        ]
        out.print(table(("trigger", "outcome", "run", "reason"), rows))
    if event.deliveries:
        rows = [(when(one.at), styled(one.verdict), one.road, one.reason) for one in event.deliveries]
        out.print(table(("delivered", "verdict", "by", "reason"), rows))


def _reason(match: Match) -> str | None:
    is_waiting = match.outcome is Outcome.HELD and match.settle_group is not None
    return f"{match.reason} in group {match.settle_group}" if is_waiting else match.reason


def _row(event: StoredEvent) -> tuple[Any, ...]:
    runs = ", ".join(event.run_ids) or None
    return event.id, when(event.received_at), event.source, styled(event.outcome), runs, event.reason
