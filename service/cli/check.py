"""`millrace check`: everything that is wrong with a project, at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from pipelines.model import Problem, Severity
from pipelines.project import Project
from service.checks import problems_of
from service.cli.options import json_option, project_option, settings_of
from service.cli.output import console, print_json, styled, table
from service.logs import configure_logs
from service.project_folders import hint_of
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
        for project in loaded:
            print_project(project)
    if any(problem.severity is Severity.ERROR for project in loaded for problem in problems_of(project)):
        raise click.exceptions.Exit(1)


def _json_of(projects: tuple[Project, ...]) -> dict[str, Any]:
    several = len(projects) > 1
    return {
        "pipelines": [line for project in projects for line in pipelines_of(project)],
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


def pipelines_of(project: Project) -> Iterator[dict[str, Any]]:
    """Yield for each pipeline whether it can run, and why not."""
    reasons: dict[str, list[str]] = {}
    for problem in problems_of(project):
        if problem.severity is Severity.ERROR and problem.pipeline:
            reasons.setdefault(problem.pipeline, []).append(problem.message)
    for name in sorted({*project.pipelines, *reasons}):
        pipeline = project.pipelines.get(name)
        yield {
            "name": name,
            "project": project.name,
            "ok": name not in reasons,
            "blocks": [block.name for block in pipeline.blocks] if pipeline else [],
            "triggers": [trigger.name for trigger in pipeline.triggers] if pipeline else [],
            "reasons": reasons.get(name, []),
        }


def print_project(project: Project) -> None:
    """Print the problems of a project, and which of its pipelines can run."""
    out = console()
    rows = [_row(problem, project) for problem in problems_of(project)]
    if rows:
        out.print(table(("where", "severity", "what"), rows))
        out.print()
    lines = list(pipelines_of(project))
    if lines:
        out.print(table(("pipeline", "runs", "blocks", "triggers", "why not"), map(_summary, lines)))
    # A pipeline of which only the triggers are wrong is not ok, and can run all the same, by hand.
    hint = "" if lines else hint_of(project.root)
    out.print(f"{project.name}: {len(project.pipelines)} of {len(lines)} pipelines can run{hint}")


def _summary(line: dict[str, Any]) -> tuple[Any, ...]:
    runs = styled("ok") if line["ok"] else Text("by hand" if line["blocks"] else "no", style="bold red")
    return line["name"], runs, len(line["blocks"]), len(line["triggers"]), _shortened(line["reasons"])


def _shortened(reasons: list[str]) -> str:
    if not reasons:
        return ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return reasons[0] + more


def _row(problem: Problem, project: Project) -> tuple[Any, ...]:
    path = os.path.relpath(project.root / problem.file)
    return f"{path}:{problem.line}", styled(problem.severity), problem.message
