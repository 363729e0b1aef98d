"""`millrace engine`: the process that executes runs."""

from __future__ import annotations

from pathlib import Path

import click
import structlog

from pipelines.errors import MillraceError
from service.cli.options import project_option
from service.cli.serving import lifeline_option, prepare
from service.engine import serve_engine
from service.errors import MillraceServiceError
from service.exits import exit_code_of

logger = structlog.get_logger(__name__)


@click.command()
@project_option
@lifeline_option
def engine(projects: tuple[Path, ...], lifeline: int | None) -> None:
    """Only the engine: claims runs and executes them in worker processes, ticks schedules and sensors."""
    settings = prepare(projects, process="engine")
    try:
        serve_engine(settings, lifeline)
    except (MillraceError, MillraceServiceError) as error:
        logger.error("the engine cannot go on", error=str(error))
        raise click.exceptions.Exit(exit_code_of(error)) from error
