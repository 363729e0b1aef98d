"""Runs that a person asks for, by API or command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipelines.errors import MillraceError
from pipelines.model import Pipeline, Severity
from pipelines.project import Project
from pipelines.variables import check_inputs
from service.matching.limiting import run_limits, run_throttles
from service.runtime import Runtime
from service.store import runs
from service.store.ids import new_id
from service.store.session import Commit
from service.store.values import NewRun, Run


class UnknownPipeline(MillraceError):
    """The project has no pipeline of that name that can run."""


class UnknownBlock(MillraceError):
    """The pipeline has no block of that name."""


def launch(
    runtime: Runtime,
    *,
    pipeline: str,
    project: str | None = None,
    variables: Mapping[str, Any] | None = None,
    execution_date: datetime | None = None,
    selection: Sequence[str] = (),
    idempotency_key: str | None = None,
) -> tuple[Run, bool]:
    """Enqueue a run and wake an engine. Return it, and False when `idempotency_key` had asked for it before.

    Raises UnknownProject, UnknownPipeline, UnknownBlock or InputError before anything is written.
    """
    home = runtime.projects.default if project is None else runtime.projects.get(project)
    new = new_run(
        runtime,
        home,
        find_pipeline(home, pipeline),
        variables=variables,
        execution_date=execution_date,
        selection=selection,
    )
    return runtime.database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new, idempotency_key))


def new_run(
    runtime: Runtime,
    project: Project,
    pipeline: Pipeline,
    *,
    variables: Mapping[str, Any] | None = None,
    execution_date: datetime | None = None,
    selection: Sequence[str] = (),
) -> NewRun:
    """Return a run to be enqueued. Raises UnknownBlock or InputError."""
    return NewRun(
        id=new_id(),
        project=project.name,
        pipeline=pipeline.name,
        execution_date=execution_date or runtime.clock(),
        variables=check_inputs(pipeline, variables or {}),
        selection=_checked_selection(pipeline, selection),
        limits=run_limits(project.name, pipeline),
        throttles=run_throttles(project.name, pipeline),
    )


def find_pipeline(project: Project, name: str) -> Pipeline:
    """Return the pipeline; UnknownPipeline says what is wrong with it, or which ones there are."""
    found = project.pipelines.get(name)
    if found is not None:
        return found
    broken = [
        str(problem)
        for problem in project.problems
        if problem.pipeline == name and problem.severity is Severity.ERROR
    ]
    if broken:
        more = f" (and {len(broken) - 1} more errors: millrace check)" if len(broken) > 1 else ""
        raise UnknownPipeline(f"pipeline {name!r} cannot run: {broken[0]}{more}")
    known = ", ".join(sorted(project.pipelines)) or "none yet"
    raise UnknownPipeline(f"project {project.name!r} has no pipeline {name!r}; it has: {known}")


def _checked_selection(pipeline: Pipeline, selection: Sequence[str]) -> tuple[str, ...]:
    known = [block.name for block in pipeline.blocks]
    for name in selection:
        if name not in known:
            raise UnknownBlock(
                f"pipeline {pipeline.name!r} has no block {name!r}; it has: {', '.join(known)}"
            )
    return tuple(name for name in known if name in selection)
