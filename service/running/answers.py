"""What the calls of blocks come to in the store. How a block waits is `service.running.calls`'s.

The process that asks may be one that was given up for dead. So whatever changes anything does so in a
transaction that has seen the run's claim hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from pipelines.errors import MillraceError, TerminalError
from service.running.launch import find_pipeline, new_run
from service.runtime import Runtime
from service.store import calls, runs
from service.store.calls import Outputs
from service.store.session import Commit, Transaction
from service.store.values import NewRun, Run, RunState

MAX_DEPTH = 8  # runs one below the other: every one that waits holds a worker process


class Refused(TerminalError):
    """What a block asks for cannot be done, now or later."""


class Failed(MillraceError):
    """What a block asks for was tried and failed; another try may help."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The claim under which a block asks."""

    run_id: str
    claim: int
    project: str


def start(runtime: Runtime, caller: Caller, wanted: Mapping[str, Any]) -> tuple[Run, bool]:
    """Start a run for a block, once for its key. Return it, and False when the key had started it before.

    Raises ClaimLost, Refused, UnknownPipeline or InputError before anything is written.
    """
    runtime.projects.refresh()  # the block may have written a variable for the run just now
    home = runtime.projects.get(caller.project)
    date = wanted["execution_date"]
    new = new_run(
        runtime,
        home,
        find_pipeline(home, wanted["pipeline"]),
        variables=wanted["variables"],
        execution_date=None if date is None else datetime.fromisoformat(date),
    )
    write = partial(_start_in, caller=caller, new=new, key=wanted["key"], is_awaited=wanted["is_awaited"])
    return runtime.database.write(Commit.ENQUEUE, write)


def _start_in(tx: Transaction, caller: Caller, new: NewRun, key: str, is_awaited: bool) -> tuple[Run, bool]:
    parent = calls.held(tx, caller.run_id, caller.claim)
    run, is_new = child_of(tx, parent, new, key)
    is_lost = run.state in (RunState.FAILED, RunState.CANCELLED)
    if is_lost and not is_new and is_awaited and run.parent_run_id == parent.id:
        # An earlier try of the block started it, and failed with it. It goes on from where it stopped.
        return runs.retry(tx, run.id), False
    return run, is_new


def child_of(tx: Transaction, parent: Run, new: NewRun, key: str) -> tuple[Run, bool]:
    """Put a run into the queue below its parent, or return the one that the key has put there before."""
    earlier = runs.with_key(tx.connection, parent.project, f"block: {key}")
    if earlier is not None:  # also when it was asked for with other variables: code may differ between tries
        return earlier, False
    _check_lineage(tx, parent, new.pipeline)
    child = replace(new, parent_run_id=parent.id, timezone=parent.timezone, hops=parent.hops + 1)
    return runs.enqueue(tx, child, f"block: {key}")


def _check_lineage(tx: Transaction, parent: Run, pipeline: str) -> None:
    above = calls.lineage(tx.connection, parent.id, most=MAX_DEPTH)
    way = " > ".join([*(name for _, name in reversed(above)), pipeline])
    if (parent.project, pipeline) in above:
        raise Refused(
            f"pipeline {pipeline!r} would run within itself ({way}), and so without an end; let another "
            "pipeline start it, or use an event trigger on run.succeeded"
        )
    if len(above) >= MAX_DEPTH:
        raise Refused(
            f"run {parent.id} is the {MAX_DEPTH}th of runs that started each other ({way}), and no more are "
            "allowed; let one pipeline start the others, one after the other"
        )


def latest(runtime: Runtime, caller: Caller, wanted: Mapping[str, Any]) -> Outputs | None:
    """Return where the named outputs of a pipeline's latest successful run are."""
    pipeline = find_pipeline(runtime.projects.get(caller.project), wanted["pipeline"])
    known = [block.name for block in pipeline.blocks]
    for name in wanted["blocks"]:
        if name not in known:
            raise Refused(f"pipeline {pipeline.name!r} has no block {name!r}; it has: {', '.join(known)}")
    with runtime.database.read() as connection:
        found = calls.outputs(connection, caller.project, pipeline.name, wanted["blocks"])
    return found[0] if found else None


def look(runtime: Runtime, run_id: str) -> Run | None:
    """Return a run as it is now."""
    with runtime.database.read() as connection:
        return runs.get(connection, run_id)
