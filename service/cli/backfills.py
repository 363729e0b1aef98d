"""`millrace backfills`: look at backfills, and hold, resume or cancel them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from service.cli.opened import opened
from service.cli.options import Id, cursor_option, json_option, project_option
from service.cli.output import console, duration, print_fields, print_json, print_table, styled, table, when
from service.errors import NotFound
from service.store import backfill_slots
from service.store import backfills as store
from service.store.backfills import Backfill, BackfillState
from service.store.session import Commit, Transaction
from service.web.backfill_shapes import BackfillJson, SlotJson

Change = Callable[[Transaction, str], Backfill]


@click.group()
def backfills() -> None:
    """List, show, pause, resume and cancel backfills. `millrace backfill PIPELINE` makes one."""


@backfills.command("list")
@click.option("--pipeline", help="Only of this pipeline.")
@click.option(
    "--state", type=click.Choice([str(state) for state in BackfillState]), help="Only in this state."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@cursor_option
@project_option
@json_option
def list_backfills(
    pipeline: str | None,
    state: str | None,
    limit: int,
    cursor: str | None,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """List backfills, newest first."""
    wanted = BackfillState(state) if state else None
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = store.listing(connection, pipeline=pipeline, state=wanted, limit=limit + 1, after_id=cursor)
        page = BackfillJson.read(connection, found[:limit])
    following = page[-1].id if len(found) > limit else None
    if as_json:
        print_json({"items": [one.model_dump(mode="json") for one in page], "next": following})
        return
    print_table(
        ("backfill", "pipeline", "trigger", "state", "slots", "created"),
        [
            (one.id, one.pipeline, one.trigger, styled(one.state), _counted(one), when(one.created_at))
            for one in page
        ],
        empty="No backfills yet. `millrace backfill PIPELINE --start DATE --end DATE --every 1d` makes one."
        if not any((pipeline, state))
        else "No backfill fits these options.",
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


@backfills.command()
@click.argument("backfill_id", type=Id("one of `millrace backfills list`"))
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Slots shown.")
@click.option("--cursor", type=int, default=-1, metavar="NUMBER", help="`next` of the page before.")
@project_option
@json_option
def show(backfill_id: str, limit: int, cursor: int, projects: tuple[Path, ...], as_json: bool) -> None:
    """Show one backfill with its slots and their runs, in the order of processing."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        found = store.get(connection, backfill_id)
        if found is None:
            raise NotFound("backfill", backfill_id)
        (described,) = BackfillJson.read(connection, [found])
        slots = backfill_slots.page(connection, backfill_id, limit=limit + 1, after=cursor)
    page = [SlotJson.of(slot) for slot in slots[:limit]]
    following = str(page[-1].position) if len(slots) > limit else None
    if as_json:
        items = {"items": [slot.model_dump(mode="json") for slot in page], "next": following}
        print_json(described.model_dump(mode="json") | {"slots": items})
        return
    _print(described)
    console().print(
        table(("slot", "until", "state", "run", "took", "why"), [_slot_row(slot) for slot in page])
    )
    if following:
        click.echo(f"more: --cursor {following}", err=True)


@backfills.command()
@click.argument("backfill_id", type=Id("one of `millrace backfills list`"))
@project_option
@json_option
def pause(backfill_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Begin nothing more until it is resumed; what runs goes on."""
    _change(store.pause, backfill_id, projects, as_json=as_json)


@backfills.command()
@click.argument("backfill_id", type=Id("one of `millrace backfills list`"))
@project_option
@json_option
def resume(backfill_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Let a backfill go on that was paused, or stopped after failures."""
    _change(store.resume, backfill_id, projects, as_json=as_json)


@backfills.command()
@click.argument("backfill_id", type=Id("one of `millrace backfills list`"))
@project_option
@json_option
def cancel(backfill_id: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """End a backfill: what waits is cancelled, what runs is asked to end."""
    _change(store.cancel, backfill_id, projects, as_json=as_json)


def _change(how: Change, backfill_id: str, projects: tuple[Path, ...], *, as_json: bool) -> None:
    with opened(projects) as runtime:
        changed = runtime.database.write(Commit.BACKFILL, lambda tx: how(tx, backfill_id))
        with runtime.database.read() as connection:
            (described,) = BackfillJson.read(connection, [changed])
    if as_json:
        print_json(described.model_dump(mode="json"))
    else:
        click.echo(f"backfill {backfill_id} is {described.state}: {_counted(described)}")


def _print(one: BackfillJson) -> None:
    asked = {name: value for name, value in one.spec.items() if value not in (None, {}, [])}
    print_fields(
        (
            ("backfill", one.id),
            ("project", one.project),
            ("pipeline", one.pipeline),
            ("trigger", one.trigger),
            ("state", styled(one.state)),
            ("reason", one.reason),
            ("asked for", asked),
            ("runs at once", one.concurrency),
            ("slots", _counted(one)),
            ("created", one.created_at),
            ("finished", one.finished_at),
        )
    )


def _slot_row(slot: SlotJson) -> tuple[object, ...]:
    took = duration(slot.started_at, slot.finished_at)
    why = slot.error.strip().splitlines()[-1] if slot.error and slot.error.strip() else slot.reason
    return when(slot.start) or slot.event_id, when(slot.end), styled(slot.state), slot.run_id, took, why


def _counted(one: BackfillJson) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(one.counts.items()))
