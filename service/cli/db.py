"""`millrace db`: look after the store of events and runs."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.opened import opened
from service.cli.options import json_option, project_option
from service.cli.output import print_fields, print_json
from service.maintenance import Maintenance
from service.store import runs
from service.store.migrate import HEAD


@click.group()
def db() -> None:
    """Look after the store."""


@db.command()
@project_option
@json_option
def migrate(projects: tuple[Path, ...], as_json: bool) -> None:
    """Create or upgrade the tables. Every process does this at its start as well; here it is done alone."""
    with opened(projects) as runtime:  # opening it is the migration
        name = runtime.database.name
    if as_json:
        print_json({"store": name, "version": HEAD})
    else:
        click.echo(f"{name} has schema {HEAD}")


@db.command()
@project_option
@json_option
def status(projects: tuple[Path, ...], as_json: bool) -> None:
    """Show where the store is, its version, and how many runs are in each state."""
    with opened(projects) as runtime, runtime.database.read() as connection:
        name = runtime.database.name
        counts = {str(state): count for state, count in runs.counts(connection).items()}
    if as_json:
        print_json({"store": name, "version": HEAD, "runs": counts})
    else:
        shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"
        print_fields((("store", name), ("schema", HEAD), ("runs", shown)))


@db.command()
@project_option
@json_option
def prune(projects: tuple[Path, ...], as_json: bool) -> None:
    """Delete what is older than the retention settings allow, now instead of by and by."""
    with opened(projects) as runtime:
        deleted = Maintenance(runtime).prune()
    if as_json:
        print_json({"deleted_rows": deleted})
    else:
        click.echo(f"deleted {deleted} rows")
