"""`millrace start`, and the two processes it supervises: `web` and `engine`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from pipelines.errors import MillraceError
from service.cli.options import project_option, settings_of
from service.errors import MillraceServiceError
from service.exits import exit_code_of
from service.lifeline import Lifeline
from service.logs import configure_logs
from service.settings import PREFIX, Settings, unknown_variables
from service.supervisor import Role, Supervisor, address_of, millrace_command, open_listener

F = TypeVar("F", bound=Callable[..., Any])
logger = structlog.get_logger(__name__)

_KILL_AFTER_DRAIN_SECONDS = 5.0  # what a process may take beyond the drain before it is killed


def address_options(command: F) -> F:
    command = click.option(
        "--port", type=int, help="Port; 0 takes any free one. [default: MILLRACE_PORT, 6789]"
    )(command)
    return click.option("--host", help="Address to listen on. [default: MILLRACE_HOST, 127.0.0.1]")(command)


def lifeline_option(command: F) -> F:
    # Not for people: the supervisor gives it, so that no process outlives it.
    return click.option("--lifeline", type=int, hidden=True)(command)


@click.command()
@project_option
@address_options
def start(projects: tuple[Path, ...], host: str | None, port: int | None) -> None:
    """Serve projects: a web and an engine process, started again whenever one dies.

    Stops in good order on Ctrl-C or SIGTERM; a second one stops at once. It listens beyond this machine only
    when MILLRACE_API_TOKEN is set.
    """
    settings = _prepare(projects, process="supervisor", host=host, port=port)
    settings.require_safe_address()
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


@click.command()
@project_option
@address_options
@lifeline_option
@click.option("--listener", "listener_descriptor", type=int, hidden=True)
def web(
    projects: tuple[Path, ...],
    host: str | None,
    port: int | None,
    lifeline: int | None,
    listener_descriptor: int | None,
) -> None:
    """Only the web process: webhooks, API and page. Runs are executed by an engine elsewhere."""
    from service.web.server import WebServer

    settings = _prepare(projects, process="web", host=host, port=port)
    settings.require_safe_address()
    if listener_descriptor is None:
        listener = open_listener(settings.host, settings.port)
        logger.info("listening", address=address_of(listener))
    else:
        listener = socket.socket(fileno=listener_descriptor)
    WebServer(settings, listener, lifeline).run()


@click.command()
@project_option
@lifeline_option
def engine(projects: tuple[Path, ...], lifeline: int | None) -> None:
    """Only the engine: claims runs and executes them in worker processes, ticks schedules and sensors."""
    from service.engine import serve_engine

    settings = _prepare(projects, process="engine")
    try:
        serve_engine(settings, lifeline)
    except (MillraceError, MillraceServiceError) as error:
        logger.error("the engine cannot go on", error=str(error))
        raise click.exceptions.Exit(exit_code_of(error)) from error


def _prepare(projects: tuple[Path, ...], *, process: str, **chosen: Any) -> Settings:
    settings = settings_of(projects, **chosen)
    configure_logs(settings, process=process)
    if process == "supervisor":
        for name in unknown_variables(os.environ):
            logger.warning("unknown setting, is it misspelt?", variable=name)
    return settings


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
