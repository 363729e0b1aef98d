"""Executes single blocks of one run: builds what the block is told, and calls its kind of execution."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.batches import events_of
from pipelines.blocks.add_ons import call_back, first_false
from pipelines.blocks.dbt import run_dbt
from pipelines.blocks.integration import run_integration
from pipelines.blocks.product import run_product
from pipelines.blocks.python import run_python
from pipelines.blocks.r import run_r
from pipelines.blocks.sensor import look
from pipelines.blocks.sql import run_sql
from pipelines.blocks.streaming import spooled
from pipelines.checkpoints import BLOCK_MODULE_PREFIX, Checkpoints
from pipelines.checks import check_outputs
from pipelines.context import BlockContext, EffectCounter, current_block
from pipelines.crash import CrashPoints
from pipelines.dynamic import surroundings
from pipelines.errors import BlockCodeError
from pipelines.handover import own_copies, own_copy
from pipelines.io.config import Profiles
from pipelines.io.polars_frames import is_polars
from pipelines.mage.importing import places_of
from pipelines.model import Block, BlockType
from pipelines.nodes import Node
from pipelines.runspec import RunSpec
from pipelines.streams import Stream
from pipelines.variables import block_keywords

Outputs = tuple[Any, ...]

_TABLES = (pd.DataFrame, pd.Series, pa.Table, pa.RecordBatch, Stream)


# How each kind of block executes: the block's context and its inputs to its outputs.
KINDS: Mapping[str, Callable[[BlockContext, Sequence[Any]], Outputs]] = {
    "python": run_python,
    "sql": run_sql,
    "r": run_r,
    "dbt": run_dbt,
    "global_data_product": run_product,
    "data_integration": run_integration,
}


@dataclass(frozen=True)
class BlockEnding:
    """How a block ended for good, for the callbacks beside it."""

    status: str  # success or failure
    output: Any = None
    inputs: Sequence[Any] = ()
    error: BaseException | None = None


class BlockRunner:
    """Executes single blocks of one run."""

    def __init__(
        self, spec: RunSpec, profiles: Profiles, checkpoints: Checkpoints, crash: CrashPoints
    ) -> None:
        self._spec = spec
        self._profiles = profiles
        self._shared: dict[str, Any] = {}  # what blocks of one run tell each other, as long as it runs here
        self._checkpoints = checkpoints
        self._crash = crash

    def run(self, node: Node, inputs: Sequence[Any]) -> tuple[Outputs, int | None]:
        """Return the outputs, and how many rows they have or the block exported.

        Raises NotYet when what the block waits for is not there.
        """
        with _current(self._context(node, node.block)) as context:
            if node.block.type is BlockType.SENSOR:
                look(context, inputs)
                return (), None
            with _withdrawn_on_failure(context):
                outputs = spooled(context, KINDS[node.block.kind](context, inputs), node.block.path)
                if node.block.checks:
                    check_outputs(context, outputs)
        return outputs, _rows(outputs, context.effects)

    def objection(self, node: Node, conditional: Block, inputs: Sequence[Any]) -> str | None:
        """Return the name of the first condition that is false for this block; None lets it run."""
        with _current(self._context(node, conditional)) as context:
            return first_false(context, own_copies(inputs))

    def call_back(self, node: Node, callback: Block, ending: BlockEnding) -> None:
        """Tell a callback how the block ended. Whatever its code raises comes out as it is."""
        with _current(self._context(node, callback)) as context:
            if ending.error is not None:
                context = dataclasses.replace(context, keywords={**context.keywords, "__error": ending.error})
            named = {f"df_{number}": value for number, value in enumerate(ending.inputs, start=1)}
            call_back(context, ending.status, ending.output, {node.name: ending.output, **named})

    def forget_modules(self) -> None:
        for name in [name for name in sys.modules if name.startswith(BLOCK_MODULE_PREFIX)]:
            del sys.modules[name]

    def _context(self, node: Node, block: Block) -> BlockContext:
        """Return what `block` is told: the node's own block, or one that stands beside it."""
        spec, is_own = self._spec, block is node.block
        logger = logging.getLogger(f"block.{node.name}")
        facts = dataclasses.replace(spec.facts, attempt=node.attempt)
        given = places_of(spec.root).located_values({**spec.variables, **node.keywords})
        keywords = own_copy(block_keywords(facts, block, given))
        if block.language == "python" and (table := events_of(facts.event)) is not None:
            keywords.setdefault("events", table)  # a variable of that name was there first
        if node.item is not None:
            keywords["dynamic_block_index"] = node.item
        if not is_own:
            keywords["parent_block_uuid"] = node.name
        return BlockContext(
            run_id=spec.facts.run_id,
            project=spec.facts.project,
            root=spec.root,
            pipeline=surroundings(spec.pipeline, node),
            block=block,
            attempt=node.attempt,
            keywords={
                **keywords,
                "repo_path": str(spec.root),
                "logger": logger,
                "context": self._shared,
            },
            upstream=node.block.upstream,
            source=self._source(block),
            profiles=self._profiles,
            logger=logger,
            spools=self._checkpoints.spools(spec.facts.run_id, node.name, node.attempt),
            checkpoints=self._checkpoints,
            service=spec.service,
            effects=EffectCounter(spec.facts.run_id, block.name if is_own else f"{node.name}.{block.name}"),
            crash=self._crash,
            home=self._checkpoints.root.parent,
        )

    def _source(self, block: Block) -> str:
        if not block.path:
            return ""
        try:
            source = self._spec.sources[block.path]
        except KeyError:
            raise BlockCodeError(f"{block.path}: the code of block {block.name!r} is missing") from None
        # The texts in Python code are mapped when it is compiled, so that tracebacks show it as it is.
        return source if block.language == "python" else places_of(self._spec.root).located(source)


@contextmanager
def _current(context: BlockContext) -> Iterator[BlockContext]:
    """Let connectors and the like find the context of the block that this thread runs."""
    token = current_block.set(context)
    try:
        yield context
    finally:
        current_block.reset(token)


@contextmanager
def _withdrawn_on_failure(context: BlockContext) -> Iterator[None]:
    """Leave nothing on the disk of what a block gave before it failed."""
    try:
        yield
    except BaseException:
        if context.spools is not None:
            context.spools.withdraw()
        raise


def _rows(outputs: Outputs, effects: EffectCounter) -> int | None:
    """Count the rows of all tables among the outputs; of a block that returns none, the rows it exported."""
    tables = [output for output in outputs if isinstance(output, _TABLES) or is_polars(output)]
    if tables:
        return sum(len(table) for table in tables)
    return effects.rows or None
