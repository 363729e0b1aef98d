"""The top command. It knows names and one line of help; the code of a command is loaded when it is used."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import click

# name -> (module, attribute, help in one line)
_COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "init": ("init", "init", "Make a small project that runs."),
    "start": ("start", "start", "Serve projects: web and engine, kept alive."),
    "web": ("web", "web", "Only the web process: webhooks, API and page."),
    "engine": ("engine", "engine", "Only the engine: runs, schedules and sensors."),
    "run": ("run", "run", "Run a pipeline now, in this process."),
    "check": ("check", "check", "Read a project and report everything that is wrong."),
    "test": ("test", "test", "Run pipelines with throw-away state and report their @test functions."),
    "pipelines": ("pipelines", "pipelines", "List and show pipelines."),
    "trigger": ("trigger", "trigger", "List, pause, resume and fire triggers; when they are due."),
    "sensors": ("sensors", "sensors", "List, tick, reset, pause and resume sensors."),
    "backfill": ("backfill", "backfill", "Run a pipeline for a range of dates, or for stored events."),
    "backfills": ("backfills", "backfills", "List, show, pause, resume and cancel backfills."),
    "runs": ("runs", "runs", "List, show, watch, cancel and retry runs."),
    "events": ("events", "events", "List, follow, replay and forget events; refused deliveries."),
    "new": ("new", "new", "Make blocks and pipelines to begin with."),
    "import": ("imports", "imports", "Bring projects of other tools over."),
    "db": ("db", "db", "Look after the store."),
    "doctor": ("doctor", "doctor", "Examine the service and what it depends on."),
}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector from looking through what is loaded: all of it stays, and looking took a quarter."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """A group whose commands are imported by name, so that `millrace --help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        name = f"service.cli.{module}"
        with nullcontext() if name in sys.modules else _uncollected():
            command: click.Command = getattr(importlib.import_module(name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = ", ".join(_COMMANDS)
            raise click.UsageError(f"{error.message} Commands are {known}.", ctx) from None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every setting has an environment variable: see docs/settings.md. "
    "Exit codes: 0 done, 1 the run or check failed, 2 wrong use.",
)
@click.version_option(package_name="millrace", prog_name="millrace")
def millrace() -> None:
    """Run data pipelines the moment something happens."""
