"""What the commands that serve have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from service.cli.options import settings_of
from service.logs import configure_logs
from service.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def address_options(command: F) -> F:
    port = click.option("--port", type=int, help="Port; 0 takes any free one. [default: MILLRACE_PORT, 6789]")
    host = click.option("--host", help="Address to listen on. [default: MILLRACE_HOST, 127.0.0.1]")
    return host(port(command))


def lifeline_option(command: F) -> F:
    # Not for people: the supervisor gives it, so that no process outlives it.
    return click.option("--lifeline", type=int, hidden=True)(command)


def prepare(projects: tuple[Path, ...], *, process: str, **chosen: Any) -> Settings:
    """Read the settings and open the log of a process that serves."""
    settings = settings_of(projects, **chosen)
    configure_logs(settings, process=process)
    return settings
