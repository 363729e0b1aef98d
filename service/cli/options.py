"""Options that many commands share, and what they open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines.model import Pipeline
from pipelines.project import Project
from service.logs import configure_logs
from service.runtime import Runtime, build_runtime
from service.settings import Settings, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def project_option(command: F) -> F:
    return click.option(
        "--project",
        "projects",
        type=click.Path(path_type=Path, file_okay=False),
        multiple=True,
        metavar="DIR",
        help="Project folder; may be given several times, the first is the default project. "
        "[default: MILLRACE_PROJECT, else the current folder]",
    )(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(command)


def var_option(command: F) -> F:
    return click.option(
        "--var",
        "variables",
        type=Variable(),
        multiple=True,
        metavar="KEY=VALUE",
        help="A variable of the run. A value that is JSON (5, true, [1, 2]) keeps its type; others are text.",
    )(command)


class Variable(click.ParamType[tuple[str, Any]]):
    """`key=value`, where a value that reads as JSON is taken as JSON."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        try:
            return key, json.loads(text)
        except ValueError:
            return key, text


class Moment(click.ParamType[datetime]):
    """An ISO 8601 date or time; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is not an ISO 8601 time such as 2024-01-31 or 2024-01-31T05:00Z", param, ctx
            )
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def settings_of(projects: tuple[Path, ...], **chosen: Any) -> Settings:
    """Return the settings of a command that was given these `--project` options."""
    return load_settings(project=projects or None, **chosen)


@contextmanager
def opened(projects: tuple[Path, ...], **chosen: Any) -> Iterator[Runtime]:
    """Open the local store and projects for one command."""
    settings = settings_of(projects, **chosen)
    configure_logs(settings, process="cli", least_level="warning")
    runtime = build_runtime(settings)
    try:
        yield runtime
    finally:
        runtime.close()


def find_pipeline(runtime: Runtime, name: str) -> tuple[Project, Pipeline]:
    """Return the pipeline called `name`, or `project/name` where several projects are served."""
    project_name, slash, pipeline_name = name.rpartition("/")
    project = runtime.projects.get(project_name) if slash else runtime.projects.default
    pipeline = project.pipelines.get(pipeline_name)
    if pipeline is not None:
        return project, pipeline
    broken = [problem for problem in project.problems if problem.pipeline == pipeline_name]
    if broken:
        lines = "\n".join(f"  {problem}" for problem in broken)
        raise click.ClickException(f"pipeline {pipeline_name!r} cannot run:\n{lines}")
    known = ", ".join(sorted(project.pipelines)) or "none"
    raise click.UsageError(f"project {project.name!r} has no pipeline {pipeline_name!r}; it has: {known}")
