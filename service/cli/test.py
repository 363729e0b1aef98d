"""`millrace test`: run pipelines with throw-away state and report what their `@test` functions say."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pipelines.model import BlockType, Pipeline
from pipelines.project import Project
from pipelines.variables import InputError
from service.cli.follow import SilentView
from service.cli.opened import opened, pipeline_called, typed_variables
from service.cli.options import json_option, project_option, settings_of, var_option
from service.cli.output import console, print_json, print_table, styled
from service.cli.run import execute
from service.running.launch import launch
from service.runtime import Runtime
from service.store.values import BlockState, Run, RunState
from service.web.schemas import run_json


@dataclass(frozen=True)
class Tested:
    """A pipeline, the run that tried it, and the `@test` functions and checks of each block that ran."""

    pipeline: Pipeline
    run: Run
    tests: dict[str, tuple[str, ...]]

    @property
    def passed(self) -> bool:
        return self.run.state is RunState.SUCCEEDED


@click.command()
@click.argument("names", metavar="[PIPELINE]...", nargs=-1)
@var_option
@click.option(
    "--with-exporters",
    is_flag=True,
    help="Run exporters too, and what comes after them. They write for real.",
)
@project_option
@json_option
def test(
    names: tuple[str, ...],
    variables: tuple[tuple[str, str], ...],
    with_exporters: bool,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Run pipelines (all by default) and report the @test functions and checks of their blocks.

    Blocks run for real, on the project's own profiles, but the state of the service (runs, events,
    checkpoints) is thrown away afterwards. Exporters are left out unless you ask for them. Exits with 1
    when a block, one of its tests or one of its checks fails.
    """
    with _throw_away_runtime(projects) as runtime:
        chosen = _chosen(runtime, names)
        results = [
            _try(runtime, project, pipeline, variables, with_exporters=with_exporters)
            for project, pipeline in chosen
        ]
    if as_json:
        print_json({"pipelines": [_json_of(result) for result in results]})
    else:
        _print(results)
    if not all(result.passed for result in results):
        raise click.exceptions.Exit(1)


@contextmanager
def _throw_away_runtime(projects: tuple[Path, ...]) -> Iterator[Runtime]:
    real = settings_of(projects)
    with tempfile.TemporaryDirectory(prefix="millrace-test-") as folder:
        home = Path(folder)
        if (real.home / "secrets").is_dir():
            (home / "secrets").symlink_to(real.home / "secrets")
        with opened(
            projects,
            home=home,
            database_url=f"sqlite:///{home / 'millrace.db'}",
            checkpoints=home / "checkpoints",
        ) as runtime:
            yield runtime


def _chosen(runtime: Runtime, names: tuple[str, ...]) -> list[tuple[Project, Pipeline]]:
    if names:
        return [pipeline_called(runtime, name) for name in names]
    found = [
        (project, pipeline) for project in runtime.projects.all() for pipeline in project.pipelines.values()
    ]
    if not found:
        raise click.ClickException("there is no pipeline to test; `millrace check` says what is wrong")
    return found


def _try(
    runtime: Runtime,
    project: Project,
    pipeline: Pipeline,
    variables: tuple[tuple[str, str], ...],
    *,
    with_exporters: bool,
) -> Tested:
    selection = () if with_exporters else _without_exporters(pipeline)
    try:
        queued, _ = launch(
            runtime,
            project=project.name,
            pipeline=pipeline.name,
            variables=typed_variables(pipeline, variables),
            selection=selection,
        )
    except InputError as error:
        raise click.UsageError(f"{pipeline.name}: {error}") from error
    run = execute(runtime, queued, SilentView())
    sources = project.sources_of(pipeline.name)
    tests = {
        block.name: (*tests_in(sources.get(block.path, "")), *map(str, block.checks))
        for block in pipeline.blocks
    }
    return Tested(pipeline, run, tests)


def _without_exporters(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the blocks that are neither exporters nor below one."""
    left_out: set[str] = set()
    for block in pipeline.blocks:  # in topological order
        if block.type is BlockType.DATA_EXPORTER or left_out.intersection(block.upstream):
            left_out.add(block.name)
    kept = tuple(block.name for block in pipeline.blocks if block.name not in left_out)
    if not kept:
        raise click.UsageError(f"{pipeline.name} has exporters only; test it by --with-exporters")
    return kept


def tests_in(source: str) -> tuple[str, ...]:
    """Return the names of the functions under `@test`."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # of SQL, or of a broken block, which `check` reports
        return ()
    return tuple(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(
            isinstance(decorator, ast.Name) and decorator.id == "test" for decorator in node.decorator_list
        )
    )


def _json_of(result: Tested) -> dict[str, Any]:
    return {
        "name": result.pipeline.name,
        "ok": result.passed,
        "tests": {block.name: list(result.tests.get(block.name, ())) for block in result.run.blocks},
        "run": run_json(result.run),
    }


def _print(results: list[Tested]) -> None:
    rows = [
        (result.pipeline.name, block.name, styled(block.state), len(result.tests.get(block.name, ())))
        for result in results
        for block in result.run.blocks
        if not (block.state is BlockState.QUEUED and result.passed)  # left out of this run
    ]
    print_table(("pipeline", "block", "state", "tests"), rows, empty="No block ran.")
    out = console()
    for result in results:
        for block in result.run.blocks:
            if block.error and block.state is BlockState.FAILED:
                out.print(f"\n{result.pipeline.name}/{block.name}: {block.error.strip()}", markup=False)
    passed = sum(result.passed for result in results)
    out.print(f"\n{passed} of {len(results)} pipelines passed")
