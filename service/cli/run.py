"""`millrace run`: run a pipeline now, with an engine of this process's own that takes this run only."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from pipelines.model import Pipeline
from pipelines.variables import InputError
from service.cli.follow import SilentView, View, find_run, follow, view_for
from service.cli.opened import opened, pipeline_called, typed_variables
from service.cli.options import Moment, json_option, project_option, var_option
from service.cli.output import print_json
from service.errors import WrongState
from service.running.launch import UnknownBlock, launch
from service.running.worker import Worker
from service.runtime import Runtime
from service.store import runs
from service.store.ids import new_id
from service.store.session import Commit
from service.store.values import Run, RunState
from service.web.schemas import run_json


@click.command()
@click.argument("pipeline")
@var_option
@click.option(
    "--block", "blocks", multiple=True, metavar="NAME", help="Run only this block; may be repeated."
)
@click.option("--with-upstream", is_flag=True, help="With --block: run everything above it as well.")
@click.option(
    "--execution-date", type=Moment(), metavar="TIME", help="ISO 8601; UTC without a zone. [default: now]"
)
@project_option
@json_option
def run(
    pipeline: str,
    variables: tuple[tuple[str, str], ...],
    blocks: tuple[str, ...],
    with_upstream: bool,
    execution_date: datetime | None,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Run PIPELINE now and show its blocks. Needs no service. Exits with 1 when the run fails.

    Runs that its blocks start are run as well, and waited for.

    In several projects a pipeline is PROJECT/PIPELINE. Ctrl-C cancels the run.
    """
    if with_upstream and not blocks:
        raise click.UsageError("--with-upstream says what to run above --block; name a block")
    with opened(projects) as runtime:
        project, declared = pipeline_called(runtime, pipeline)
        try:
            queued, _ = launch(
                runtime,
                project=project.name,
                pipeline=declared.name,
                variables=typed_variables(declared, variables),
                execution_date=execution_date,
                selection=with_ancestors(declared, blocks) if with_upstream else blocks,
            )
        except (InputError, UnknownBlock) as error:
            raise click.UsageError(str(error)) from error
        finished = execute(runtime, queued, view_for(as_json=as_json, clock=runtime.clock))
    if as_json:
        print_json(run_json(finished))
    if finished.state is not RunState.SUCCEEDED:
        if not as_json:
            click.echo(
                f"mend the code, and run it again: millrace run {finished.pipeline}; or, with the code "
                f"that it had, from the failed block, by a service: millrace runs retry {finished.id}",
                err=True,
            )
        raise click.exceptions.Exit(1)


def execute(runtime: Runtime, queued: Run, view: View) -> Run:
    """Execute the queued run, and those that its blocks start, in worker processes of our own.

    Return it once all of them are finished.
    """
    runtime.wakeups.start()
    worker = Worker(runtime, engine_id=f"cli-{new_id()}", only=queued.id)
    worker.start()
    try:
        run = follow(runtime, queued.id, view)
        _follow_children(runtime, worker)
        return run
    except KeyboardInterrupt:
        _cancel(runtime, [queued.id, *worker.family])
        click.echo(f"cancelling run {queued.id}", err=True)
        follow(runtime, queued.id, view)
        raise click.Abort from None
    finally:
        worker.stop()


def _follow_children(runtime: Runtime, worker: Worker) -> None:
    """Wait for the runs that nobody waited for: there may be no service that would take them."""
    while open_runs := [
        child for run_id in worker.family if not (child := find_run(runtime, run_id)).state.is_final
    ]:
        child = open_runs[0]
        click.echo(
            f"waiting for run {child.id} of pipeline {child.pipeline}, which a block started", err=True
        )
        follow(runtime, child.id, SilentView())


def _cancel(runtime: Runtime, run_ids: Iterable[str]) -> None:
    for run_id in run_ids:
        with suppress(WrongState):  # it has ended meanwhile
            runtime.database.write(Commit.CANCEL, partial(runs.cancel, run_id=run_id))


def with_ancestors(pipeline: Pipeline, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the blocks and everything above them, in the order of the graph."""
    wanted = set(names)
    for block in reversed(pipeline.blocks):
        if block.name in wanted:
            wanted.update(block.upstream)
    # An unknown name stays in, so that `launch` can say what is wrong with it.
    known = tuple(block.name for block in pipeline.blocks if block.name in wanted)
    return known + tuple(name for name in names if name not in known)
