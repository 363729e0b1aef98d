"""`millrace start`: everything that serves projects, supervised."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import click
import structlog

from service.cli.options import project_option
from service.cli.serving import address_options, prepare
from service.lifeline import Lifeline
from service.settings import PREFIX, Settings, unknown_variables
from service.supervisor import Role, Supervisor, address_of, millrace_command, open_listener

logger = structlog.get_logger(__name__)

_KILL_AFTER_DRAIN_SECONDS = 5.0  # what a process may take beyond the drain before it is killed


@click.command()
@project_option
@address_options
def start(projects: tuple[Path, ...], host: str | None, port: int | None) -> None:
    """Serve projects: a web and an engine process, started again whenever one dies.

    Stops in good order on Ctrl-C or SIGTERM; a second one stops at once. It listens beyond this machine only
    when MILLRACE_API_TOKEN is set.
    """
    settings = prepare(projects, process="supervisor", host=host, port=port)
    settings.require_safe_address()
    for name in unknown_variables(os.environ):
        logger.warning("unknown setting, is it misspelt?", variable=name)
    listener = open_listener(settings.host, settings.port)
    lifeline = Lifeline()
    logger.info("listening", address=address_of(listener), projects=[str(path) for path in settings.project])
    supervisor = Supervisor(
        roles=_roles(listener, lifeline),
        lifeline=lifeline,
        environ=_environment_of_children(settings),
        stop_seconds=settings.drain_seconds + _KILL_AFTER_DRAIN_SECONDS,
        on_stop=listener.close,
    )
    raise click.exceptions.Exit(supervisor.run())


def _roles(listener: socket.socket, lifeline: Lifeline) -> list[Role]:
    alive = ("--lifeline", str(lifeline.reading_end))
    descriptor = listener.fileno()
    web = millrace_command("web", *alive, "--listener", str(descriptor))
    return [
        Role("engine", millrace_command("engine", *alive)),
        Role("web", web, descriptors=(descriptor,)),
    ]


def _environment_of_children(settings: Settings) -> Mapping[str, str]:
    """Return our environment, in which what was chosen on the command line is written out."""
    return {
        **os.environ,
        f"{PREFIX}PROJECT": os.pathsep.join(map(str, settings.project)),
        f"{PREFIX}HOME": str(settings.home),
        f"{PREFIX}HOST": settings.host,
        f"{PREFIX}PORT": str(settings.port),
    }
