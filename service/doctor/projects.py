"""What the projects themselves say is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.errors import MillraceError
from pipelines.model import Severity
from pipelines.parse import PROJECT_FILE
from service.checks import problems_of
from service.doctor.findings import Finding, Patient, problem, warning, well
from service.matching.rendering import Rendering
from service.store import held as held_rows
from service.store import settling
from service.store import triggers as trigger_rows


def projects(patient: Patient) -> Iterator[Finding]:
    """Count the faults that `millrace check` shows one by one."""
    for project in patient.runtime.projects.all():
        errors = [one for one in problems_of(project) if one.severity is Severity.ERROR]
        if errors:
            yield problem(
                "project",
                project.name,
                f"{len(errors)} errors, the first: {errors[0]}",
                "`millrace check` lists them; the last good version of a pipeline stays in use",
            )
        else:
            yield well("project", project.name, f"{len(project.pipelines)} pipelines without errors")


def triggers(patient: Patient) -> Iterator[Finding]:
    """Name the triggers that cannot work as they are, and those that are paused."""
    with patient.runtime.database.read() as connection:
        paused = trigger_rows.paused(connection)
    for compiled in patient.triggers:
        name = f"{compiled.pipeline.name}/{compiled.name}"
        if compiled.fault is not None:
            yield problem(
                "trigger", name, compiled.fault, "set what is missing; it is looked at again in a moment"
            )
        elif compiled.state_key in paused or compiled.is_paused_by_file:
            yield warning(
                "trigger", name, "is paused and holds its events", "`millrace trigger resume` lets them go"
            )


def cloudevents(patient: Patient) -> Iterator[Finding]:
    """Name what keeps the project's own door shut, and the addresses to which nothing can be sent."""
    rendering = Rendering(patient.runtime.environ, patient.runtime.secrets)
    for project in patient.runtime.projects.all():
        settings = project.cloudevents
        wanted: list[tuple[str, int, Any]] = [(f"{project.name} cloudevents", settings.line, settings.verify)]
        wanted += [
            (f"{project.name} send to {one.name}", one.line, (one.url, one.secrets)) for one in settings.send
        ]
        for name, line, value in wanted:
            try:
                rendering.tree(value, where=f"{PROJECT_FILE}:{line}")
            except MillraceError as error:
                yield problem("project", name, str(error), "set what is missing")


def held(patient: Patient) -> Iterator[Finding]:
    """Name the triggers that events wait for, and that are gone, or broken with their pipeline."""
    with patient.runtime.database.read() as connection:
        waited_for = held_rows.holding(connection) | settling.triggers(connection)
    known = {compiled.state_key for compiled in patient.triggers}
    served = patient.runtime.projects.names
    for project, pipeline, trigger in sorted(waited_for - known):
        if project in served:
            yield problem(
                "trigger",
                f"{pipeline}/{trigger}",
                "has events that are held for it, and no good file declares it",
                "mend its pipeline, or declare it again: then they go on, or "
                f"`millrace trigger resume {pipeline}/{trigger} --held drop` ends them",
            )
