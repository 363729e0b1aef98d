"""What commands that work on the local store open, and how they find things in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from pipelines.model import InputType, Pipeline
from pipelines.project import Project
from service.cli.options import settings_of
from service.logs import configure_logs
from service.running.launch import UnknownPipeline, find_pipeline
from service.runtime import Runtime, build_runtime

_TEXT_TYPES = (InputType.STRING, InputType.DATE, InputType.DATETIME)


@contextmanager
def opened(projects: tuple[Path, ...], **chosen: Any) -> Iterator[Runtime]:
    """Open the local store and the projects for one command."""
    settings = settings_of(projects, **chosen)
    configure_logs(settings, process="cli", least_level="warning")
    runtime = build_runtime(settings)
    try:
        yield runtime
    finally:
        runtime.close()


def pipeline_called(runtime: Runtime, name: str) -> tuple[Project, Pipeline]:
    """Return the pipeline `name`, or `project/name` where several projects are served."""
    project_name, slash, pipeline_name = name.rpartition("/")
    project = runtime.projects.get(project_name) if slash else runtime.projects.default
    try:
        return project, find_pipeline(project, pipeline_name)
    except UnknownPipeline as error:
        raise click.UsageError(str(error)) from error


def typed_variables(pipeline: Pipeline, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Give the values of `--var` their types: text where text is declared, else JSON if it is JSON."""
    as_text = {declared.name for declared in pipeline.inputs if declared.type in _TEXT_TYPES}
    return {key: text if key in as_text else json_or_text(text) for key, text in given}


def json_or_text(text: str) -> Any:
    try:
        return json_of(text)
    except ValueError:
        return text


def json_of(text: str) -> Any:
    """Read strict JSON. Raises ValueError."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
