"""`millrace web`: the process that answers HTTP."""

from __future__ import annotations

import socket
from pathlib import Path

import click
import structlog

from service.cli.options import project_option
from service.cli.serving import address_options, lifeline_option, prepare
from service.supervisor import address_of, open_listener
from service.web.server import WebServer

logger = structlog.get_logger(__name__)


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
    settings = prepare(projects, process="web", host=host, port=port)
    settings.require_safe_address()
    if listener_descriptor is None:
        listener = open_listener(settings.host, settings.port)
        logger.info("listening", address=address_of(listener))
    else:
        listener = socket.socket(fileno=listener_descriptor)
    WebServer(settings, listener, lifeline).run()
