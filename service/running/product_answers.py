"""Global data products: the newest outputs when they are fresh, else the one run that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipelines.model import Pipeline
from pipelines.parse_fields import closest, listed
from pipelines.products import Product
from pipelines.project import Project
from service.running.answers import Caller, Failed, Refused, child_of
from service.running.launch import find_pipeline, new_run
from service.runtime import Runtime
from service.store import calls, runs
from service.store.calls import Outputs
from service.store.session import Commit, Transaction
from service.store.values import NewRun, Run, RunState


@dataclass(frozen=True, slots=True)
class Making:
    """How a product is made, and the blocks whose outputs it is."""

    product: Product
    pipeline: Pipeline
    blocks: tuple[str, ...]

    @property
    def most_outputs(self) -> int:
        return max(self.product.partitions.values(), default=1)


def answer(runtime: Runtime, caller: Caller, wanted: Mapping[str, Any]) -> tuple[list[Outputs], str | None]:
    """Return the outputs of the product, newest first; or none, and the run that makes them.

    Raises ClaimLost, Refused for a product that cannot be made, and Failed when its run did not succeed.
    """
    home = runtime.projects.get(caller.project)
    making = making_of(home, Product.from_plain(wanted["product"]))
    new = new_run(runtime, home, making.pipeline, selection=_selection(making))
    look = partial(
        _answer_in, caller=caller, making=making, new=new, call=wanted["asker"], gone=wanted["gone"]
    )
    found, awaited = runtime.database.write(Commit.ENQUEUE, look)
    if isinstance(awaited, Failed):  # raised here, so that what the transaction noted stays
        raise awaited
    return found, awaited


def making_of(project: Project, product: Product) -> Making:
    """Return how the product is made in this project as it is now. Raises Refused."""
    if product.object_type == "block":
        pipeline = _pipeline_with(project, product)
        return Making(product, pipeline, (product.object_uuid,))
    pipeline = find_pipeline(project, product.object_uuid)
    blocks = tuple(product.partitions) or tuple(
        block.name for block in pipeline.blocks if not pipeline.downstream(block.name)
    )
    known = [block.name for block in pipeline.blocks]
    for name in blocks:
        if name not in known:
            raise Refused(
                f"the data product {product.uuid!r} takes the output of block {name!r}, which pipeline "
                f"{pipeline.name!r} does not have{closest(name, known)}; it has: {', '.join(known)}"
            )
    return Making(product, pipeline, blocks)


def _pipeline_with(project: Project, product: Product) -> Pipeline:
    if product.pipeline:
        return find_pipeline(project, product.pipeline)
    having = [
        pipeline
        for pipeline in project.pipelines.values()
        if any(block.name == product.object_uuid for block in pipeline.blocks)
    ]
    if len(having) == 1:
        return having[0]
    if not having:
        raise Refused(
            f"the data product {product.uuid!r} is the block {product.object_uuid!r}, which no pipeline has"
        )
    raise Refused(
        f"the data product {product.uuid!r} is the block {product.object_uuid!r}, which several pipelines "
        f"have ({listed([pipeline.name for pipeline in having])}); name one of them as its `pipeline`"
    )


def _selection(making: Making) -> tuple[str, ...]:
    """Return the blocks to run: all, or of a product that is one block that one and what is above it."""
    if making.product.object_type != "block":
        return ()
    wanted = set(making.blocks)
    for block in reversed(making.pipeline.blocks):
        if block.name in wanted:
            wanted.update(block.upstream)
    return tuple(block.name for block in making.pipeline.blocks if block.name in wanted)


def _answer_in(
    tx: Transaction, caller: Caller, making: Making, new: NewRun, call: str, gone: Sequence[str]
) -> tuple[list[Outputs], str | Failed | None]:
    parent = calls.held(tx, caller.run_id, caller.claim)
    was_awaited = calls.awaited_by(tx.connection, parent.id, call)
    made = calls.outputs(tx.connection, parent.project, making.pipeline.name, making.blocks, gone=gone)[
        : making.most_outputs
    ]
    if was_awaited is not None:
        run = runs.get(tx.connection, was_awaited)
        if run is not None and not run.state.is_final:
            return [], run.id
        calls.forget(tx, parent.id, call)
        if run is not None and run.state is not RunState.SUCCEEDED:
            return [], _failure(making, run)
        if any(one.run_id == was_awaited for one in made):
            return made, None  # made for us: it is used, however short its life is
    if made and making.product.is_fresh(made[0].finished_at, tx.now):
        return made, None
    awaited = calls.in_the_making(
        tx.connection, parent.project, making.pipeline.name, making.product.uuid
    ) or _make(tx, parent, making, new)
    calls.wait_for(tx, parent.id, call, making.product.uuid, awaited)
    return [], awaited


def _failure(making: Making, run: Run) -> Failed:
    how = f"failed: {run.error}" if run.error else f"was {run.state}"
    what = f"the data product {making.product.uuid!r}"
    return Failed(f"run {run.id} of pipeline {run.pipeline!r}, which makes {what}, {how}")


def _make(tx: Transaction, parent: Run, making: Making, new: NewRun) -> str:
    """Start the run; of several who find the product outdated at the same time, one does."""
    seed = calls.last_end(tx.connection, parent.project, making.pipeline.name)
    while True:
        run, is_new = child_of(tx, parent, new, f"product {making.product.uuid} after {seed}")
        if is_new or not run.state.is_final:
            return run.id
        seed = run.id
