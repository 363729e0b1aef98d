"""What block code asks of the service while it runs: start another pipeline, wait for it, read its outputs.

A worker process reaches no database. `ServiceCalls` is what it is handed instead; the functions here are what
blocks use of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pipelines.context import BlockContext, current_block
from pipelines.errors import CheckpointError, MillraceError, TerminalError
from pipelines.products import Product
from pipelines.values import plain

FINAL_STATES = ("succeeded", "failed", "cancelled")

# The words of Mage for the states of a run, for code that was written for it.
MAGE_STATUS = {
    "queued": "initial",
    "running": "running",
    "waiting": "running",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class CallRefused(TerminalError):
    """The service cannot do what the block asked for, now or later; the message says why."""


class CallFailed(MillraceError):
    """The service could not do what the block asked for; another try may help."""


class RunFailed(MillraceError):
    """The run that a block waited for did not succeed."""


class WaitTimeout(MillraceError):
    """The run that a block waits for took longer than the block wanted to wait. It goes on."""


@dataclass(frozen=True, slots=True)
class CalledRun:
    """A run as a block sees it, as it was at one moment. Times are aware UTC."""

    id: str
    pipeline: str
    state: str  # queued, running, waiting, succeeded, failed or cancelled
    variables: Mapping[str, Any]
    execution_date: datetime
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    is_new: bool = True  # False: an earlier call with the same key had started it

    @property
    def status(self) -> str:
        """The state in Mage's word for it: initial, running, completed, failed or cancelled."""
        return MAGE_STATUS[self.state]

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class StartRun:
    """A run that a block wants. `key` is what makes it once: the same key gives the same run."""

    pipeline: str
    key: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    execution_date: datetime | None = None  # None: now
    is_awaited: bool = False  # the block goes on to wait for its end


@dataclass(frozen=True, slots=True)
class StoredOutputs:
    """Where the outputs of blocks of one run are: block name -> checkpoint manifest."""

    run_id: str
    finished_at: datetime
    manifests: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ProductAnswer:
    """A product that is fresh: its newest runs, newest first. Or the run that makes it so."""

    outputs: tuple[StoredOutputs, ...] = ()
    awaited: str | None = None


class ServiceCalls(Protocol):
    """The service as a running block sees it. Called from any thread of the block.

    All raise CallRefused for what cannot be done, and CallFailed when another try may help.
    """

    def start(self, wanted: StartRun) -> CalledRun:
        """Start a run, once for its key; return it, or the one that this key started before."""
        ...

    def wait(self, run_id: str, timeout_seconds: float | None = None) -> CalledRun:
        """Return the run once it is final, or as it is when the time is over."""
        ...

    def latest(self, pipeline: str, blocks: Sequence[str] = ()) -> StoredOutputs | None:
        """Return where the outputs of the pipeline's latest successful run are; None when there is none.

        `blocks` narrows it to runs that have the outputs of all of these.
        """
        ...

    def product(
        self, product: Product, *, call: str, is_parked: bool, gone: Sequence[str] = ()
    ) -> ProductAnswer:
        """Return a product's outputs when they are fresh, else the run that makes them, started if need be.

        `call` names who asks, the same over all looks. `is_parked`: the block is parked until that run is
        over, and not waiting for it. `gone`: runs whose outputs cannot be read any more.
        """
        ...


def trigger_pipeline(
    pipeline_uuid: str,
    variables: Mapping[str, Any] | None = None,
    check_status: bool = False,
    error_on_failure: bool = False,
    poll_interval: float | None = None,
    poll_timeout: float | None = None,
    schedule_name: str | None = None,
    verbose: bool = True,
    execution_date: datetime | None = None,
    key: str | None = None,
) -> CalledRun:
    """Start a run of another pipeline of the project, once over all tries of the calling block.

    `check_status` waits for its end, at most `poll_timeout` seconds; `error_on_failure` then raises
    RunFailed with the run's error when it did not succeed. `key` names the run in place of the number of this
    call in its block: the same key of the same pipeline never starts a second run. The run gets the
    `execution_date` of the calling run, unless another one is given.

    `poll_interval` and `schedule_name` are taken because Mage's function has them: the end of a run wakes
    who waits for it, and no trigger is made.

    Raises CallRefused for an unknown pipeline, wrong variables, or a pipeline that would run within itself.
    """
    context = running_block("trigger_pipeline")
    service = service_of(context)
    wanted = StartRun(
        pipeline=pipeline_uuid,
        key=_key_of(context, pipeline_uuid, key),
        variables=_plain_variables(pipeline_uuid, variables or {}),
        execution_date=execution_date or context.keywords.get("execution_date"),
        is_awaited=check_status,
    )
    run = service.start(wanted)
    if verbose:
        _tell(context, f"run {run.id} of pipeline {run.pipeline!r} " + _beginning(run))
    if not check_status:
        return run
    run = _awaited(service, run, poll_timeout)
    if verbose:
        _tell(context, f"run {run.id} of pipeline {run.pipeline!r} {run.state}")
    if error_on_failure and run.state != "succeeded":
        raise RunFailed(
            f"run {run.id} of pipeline {run.pipeline!r}, which this block waited for, {_ending(run)}"
        )
    return run


def get_variable(pipeline_uuid: str, block_uuid: str, key: str = "output_0") -> Any:
    """Return an output of a block in the latest successful run of a pipeline.

    `key` is `output_0` for the first output, `output_1` for the second. Raises CallRefused when no
    run has it, and CheckpointError when it was deleted by retention.
    """
    context = running_block("get_variable")
    found = service_of(context).latest(pipeline_uuid, [block_uuid])
    if found is None:
        raise CallRefused(
            f"no successful run of pipeline {pipeline_uuid!r} has a stored output of block {block_uuid!r}; "
            "run the pipeline, and see that the block returns something"
        )
    outputs = load_outputs(context, found.manifests[block_uuid])
    number = _number_of(key)
    if number >= len(outputs):
        raise CallRefused(
            f"block {block_uuid!r} of pipeline {pipeline_uuid!r} has {len(outputs)} outputs in run "
            f"{found.run_id}, so there is no {key!r}; they are counted from output_0"
        )
    return outputs[number]


def latest_outputs(pipeline_uuid: str, blocks: Sequence[str] = ()) -> StoredOutputs | None:
    """Return where the outputs of the pipeline's latest successful run are; None when there is none."""
    return service_of(running_block("latest_outputs")).latest(pipeline_uuid, blocks)


def load_outputs(context: BlockContext, manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the outputs that a manifest of another run names. Raises CheckpointError."""
    if context.checkpoints is None:
        raise CheckpointError("stored outputs can be read only inside a run")
    return context.checkpoints.load(manifest)


def _awaited(service: ServiceCalls, run: CalledRun, timeout: float | None) -> CalledRun:
    ended = service.wait(run.id, timeout)
    if not ended.is_final:
        raise WaitTimeout(
            f"run {run.id} of pipeline {run.pipeline!r} was still {ended.state} after {timeout:g} s, the "
            "poll_timeout of trigger_pipeline(); it goes on. Give it more time, or do not wait for it"
        )
    return ended


def running_block(function: str) -> BlockContext:
    context = current_block.get()
    if context is None:
        raise CallRefused(
            f"{function}() works inside a running block only, on the block's own thread; in a thread of your "
            "own, run it in a copy of the block's context: contextvars.copy_context().run(...). From a "
            "program, use `millrace run` or POST /api/v1/runs"
        )
    return context


def service_of(context: BlockContext) -> ServiceCalls:
    if context.service is None:
        raise CallRefused(
            f"block {context.block.name!r} runs without a service around it, so it can start no pipeline; "
            "run it by `millrace run` or by the service"
        )
    return context.service


def _key_of(context: BlockContext, pipeline: str, key: str | None) -> str:
    """Name the run: by the caller's key, or by the run, the block and the number of the call."""
    if key is not None:
        if not str(key):
            raise CallRefused("trigger_pipeline(key=...) must not be empty; leave it out for a fresh run")
        return f"key {pipeline} {key}"
    return f"call {context.effects.next(f'run of {pipeline}')}"


def _plain_variables(pipeline: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    found = plain(dict(variables))
    for name, value in found.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CallRefused(
                f"the variable {name!r} for pipeline {pipeline!r} cannot be passed on: {error}; give it "
                "numbers, texts, dates, lists and dicts. A frame goes by a table, a file, or get_variable()"
            ) from None
    return dict(found)


def _number_of(key: str) -> int:
    name, _, number = str(key).rpartition("_")
    if name == "output" and number.isdecimal():
        return int(number)
    raise CallRefused(f"the outputs of blocks are named output_0, output_1, ...; there is no {key!r}")


def _tell(context: BlockContext, text: str) -> None:
    context.logger.info(text)


def _beginning(run: CalledRun) -> str:
    if run.is_new:
        return "was started"
    return f"was started by an earlier call with the same key; it is {run.state}"


def _ending(run: CalledRun) -> str:
    if run.state == "cancelled":
        return "was cancelled"
    return f"failed: {run.error}" if run.error else "failed"
