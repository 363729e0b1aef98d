"""Options that many commands share. Nothing here opens the store, so that `start` stays small."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from service.settings import Settings, load_settings, require_project
from service.store.ids import ID_PATTERN

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
        help="A variable of the run. What reads as JSON (5, true, [1, 2]) keeps its type, unless the "
        "pipeline declares the input as text or as a date.",
    )(command)


class Variable(click.ParamType[tuple[str, str]]):
    """`key=value`; what type the value gets is decided when the pipeline's inputs are known."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
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


class Id(click.ParamType[str]):
    """The id of a run, an event or a backfill; `source` says where a user finds one."""

    name = "id"

    def __init__(self, source: str) -> None:
        self._source = source

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(ID_PATTERN, str(value)):
            self.fail(f"{value!r} is not an id; take {self._source}", param, ctx)
        return str(value)


def cursor_option(command: F) -> F:
    return click.option(
        "--cursor", type=Id("`next` of the page before"), metavar="ID", help="`next` of the page before."
    )(command)


def settings_of(projects: tuple[Path, ...], **chosen: Any) -> Settings:
    """Return the settings of a command that was given these `--project` options."""
    settings = load_settings(project=projects or None, **chosen)
    for project in settings.project:
        require_project(project)
    return settings
