"""`millrace check`: everything that is wrong with a project, at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pipelines.model import Problem, Severity
from pipelines.project import Project
from service.checks import problems_of
from service.cli.options import json_option, project_option, settings_of
from service.cli.output import console, print_json, styled, table
from service.logs import configure_logs
from service.projects import Projects


@click.command()
@project_option
@json_option
def check(projects: tuple[Path, ...], as_json: bool) -> None:
    """Read a project and report everything that is wrong, each with file and line.

    Runs no code of the project and connects to nothing. Exits with 1 when a pipeline cannot run.
    """
    settings = settings_of(projects)
    configure_logs(settings, process="cli", least_level="error")
    loaded = Projects(settings.project).all()
    if as_json:
        print_json(_json_of(loaded))
    else:
        _print(loaded)
    if any(problem.severity is Severity.ERROR for project in loaded for problem in problems_of(project)):
        raise click.exceptions.Exit(1)


def _json_of(projects: tuple[Project, ...]) -> dict[str, Any]:
    several = len(projects) > 1
    return {
        "pipelines": [line for project in projects for line in _pipelines_of(project)],
        "problems": [
            {
                "file": str(project.root / problem.file) if several else problem.file,
                "line": problem.line,
                "severity": str(problem.severity),
                "message": problem.message,
                "pipeline": problem.pipeline,
                "project": project.name,
            }
            for project in projects
            for problem in problems_of(project)
        ],
    }


def _pipelines_of(project: Project) -> list[dict[str, Any]]:
    broken = {problem.pipeline for problem in problems_of(project) if problem.severity is Severity.ERROR}
    names = sorted({*project.pipelines, *(name for name in broken if name)})
    return [_pipeline_of(project, name, is_ok=name not in broken) for name in names]


def _pipeline_of(project: Project, name: str, *, is_ok: bool) -> dict[str, Any]:
    pipeline = project.pipelines.get(name)
    return {
        "name": name,
        "project": project.name,
        "ok": is_ok,
        "blocks": [block.name for block in pipeline.blocks] if pipeline else [],
        "triggers": [trigger.name for trigger in pipeline.triggers] if pipeline else [],
    }


def _print(projects: tuple[Project, ...]) -> None:
    out = console()
    for project in projects:
        rows = [_row(problem, project) for problem in problems_of(project)]
        if rows:
            out.print(table(("where", "severity", "what"), rows))
        # A pipeline whose triggers are wrong is not ok, and can run all the same.
        known = {line["name"] for line in _pipelines_of(project)}
        out.print(f"{project.name}: {len(project.pipelines)} of {len(known)} pipelines can run")


def _row(problem: Problem, project: Project) -> tuple[Any, ...]:
    path = os.path.relpath(project.root / problem.file)
    return f"{path}:{problem.line}", styled(problem.severity), problem.message
