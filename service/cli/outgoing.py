"""`millrace events outgoing`: the events that go to addresses outside, and how far they came."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.cli.opened import opened
from service.cli.options import cursor_option, json_option, project_option
from service.cli.output import print_json, print_table, styled, when
from service.store import outgoing as outgoing_store
from service.store.outgoing import Outgoing, SendState
from service.web.schemas import iso_time


@click.command()
@click.option("--state", type=click.Choice([str(state) for state in SendState]), help="Only in this state.")
@click.option("--event", "event_id", metavar="ID", help="Only of this event.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@cursor_option
@project_option
@json_option
def outgoing(
    state: str | None,
    event_id: str | None,
    limit: int,
    cursor: str | None,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """List the events that are sent to the addresses of `cloudevents`, newest first."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = outgoing_store.listing(
            connection,
            state=SendState(state) if state else None,
            event_id=event_id,
            limit=limit + 1,
            after_id=cursor,
        )
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    if as_json:
        print_json({"items": [_json_of(one) for one in page], "next": following})
        return
    print_table(
        ("event", "type", "to", "state", "tries", "next try", "error"),
        [_row(one) for one in page],
        empty="Nothing is sent. `cloudevents: {send: [...]}` in metadata.yaml names addresses.",
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


def _json_of(one: Outgoing) -> dict[str, Any]:
    times = {"next_at": one.next_at, "created_at": one.created_at, "sent_at": one.sent_at}
    shown = {name: iso_time(time) if time else None for name, time in times.items()}
    kept = {name: value for name, value in asdict(one).items() if name != "body"}
    return {**kept, **shown}


def _row(one: Outgoing) -> tuple[Any, ...]:
    due = when(one.next_at) if one.next_at else None
    return one.event_id, one.type, one.address, styled(one.state), one.attempts, due, one.error
