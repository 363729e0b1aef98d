"""Executes single blocks of one run: builds what the block is told, and calls its kind of execution."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.batches import events_of
from pipelines.blocks.python import run_python
from pipelines.blocks.r import run_r
from pipelines.blocks.sql import run_sql
from pipelines.checkpoints import BLOCK_MODULE_PREFIX
from pipelines.context import BlockContext, EffectCounter, current_block
from pipelines.crash import CrashPoints
from pipelines.errors import BlockCodeError
from pipelines.handover import own_copy
from pipelines.io.config import Profiles
from pipelines.nodes import Node
from pipelines.runspec import RunSpec
from pipelines.variables import block_keywords

Outputs = tuple[Any, ...]


# How each kind of block executes: the block's context and its inputs to its outputs.
KINDS: Mapping[str, Callable[[BlockContext, Sequence[Any]], Outputs]] = {
    "python": run_python,
    "sql": run_sql,
    "r": run_r,
}


class BlockRunner:
    """Executes single blocks of one run."""

    def __init__(self, spec: RunSpec, profiles: Profiles, crash: CrashPoints) -> None:
        self._spec = spec
        self._profiles = profiles
        self._crash = crash

    def run(self, node: Node, inputs: Sequence[Any]) -> tuple[Outputs, int | None]:
        """Return the outputs, and how many rows they have or the block exported."""
        context = self._context(node)
        token = current_block.set(context)
        try:
            outputs = KINDS[node.block.kind](context, inputs)
        finally:
            current_block.reset(token)
        return outputs, _rows(outputs, context.effects)

    def forget_modules(self) -> None:
        for block in self._spec.pipeline.blocks:
            sys.modules.pop(BLOCK_MODULE_PREFIX + block.name, None)

    def _context(self, node: Node) -> BlockContext:
        spec, block = self._spec, node.block
        logger = logging.getLogger(f"block.{block.name}")
        facts = dataclasses.replace(spec.facts, attempt=node.attempt)
        keywords = own_copy(block_keywords(facts, block, spec.variables))
        if block.language == "python" and (table := events_of(facts.event)) is not None:
            keywords.setdefault("events", table)  # a variable of that name was there first
        return BlockContext(
            run_id=spec.facts.run_id,
            project=spec.facts.project,
            root=spec.root,
            pipeline=spec.pipeline,
            block=block,
            attempt=node.attempt,
            keywords={**keywords, "repo_path": str(spec.root), "logger": logger},
            upstream=block.upstream,
            source=self._source(node),
            profiles=self._profiles,
            service=spec.service,
            logger=logger,
            effects=EffectCounter(spec.facts.run_id, block.name),
            crash=self._crash,
        )

    def _source(self, node: Node) -> str:
        try:
            return self._spec.sources[node.block.path]
        except KeyError:
            raise BlockCodeError(f"{node.block.path}: the code of block {node.name!r} is missing") from None


def _rows(outputs: Outputs, effects: EffectCounter) -> int | None:
    """Count the rows of all tables among the outputs; of a block that returns none, the rows it exported."""
    tables = [output for output in outputs if isinstance(output, (pd.DataFrame, pd.Series, pa.Table))]
    if tables:
        return sum(len(table) for table in tables)
    return effects.rows or None
