"""Everything that can be seen to be wrong with a project, without running any of its code."""

from __future__ import annotations

from pipelines.model import Problem
from pipelines.project import Project
from service.intake.cloudevents_checks import cloudevents_problems
from service.intake.webhook_checks import webhook_problems
from service.kind_checks import kind_problems
from service.sql_checks import sql_problems
from service.watching.sensor_checks import sensor_problems


def problems_of(project: Project) -> tuple[Problem, ...]:
    """Return the problems of the project's files and of what its triggers ask for, by file and line."""
    found = (
        *project.problems,
        *sensor_problems(project),
        *webhook_problems(project),
        *cloudevents_problems(project),
        *kind_problems(project),
        *sql_problems(project),
    )
    return tuple(sorted(found, key=lambda problem: (problem.file, problem.line)))
