"""The blocks of one run as nodes: their states, what they hold for others, and which have to run at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pipelines.checkpoints import Checkpoints
from pipelines.model import Block, BlockType
from pipelines.runspec import BlockProgress, RunSpec


class State(StrEnum):
    PENDING = "pending"  # its inputs are not there yet
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"  # a retry is due at `retry_at`
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    ABSENT = "absent"  # not selected, and nothing stored of it

    @property
    def is_broken(self) -> bool:
        return self in (State.FAILED, State.UPSTREAM_FAILED)


@dataclass(eq=False)
class Node:
    """One block in one run. Changed only under the walk's lock."""

    block: Block
    state: State
    attempt: int = 0  # tries begun
    upstream: list[Node] = field(default_factory=list)
    consumers: list[Node] = field(default_factory=list)
    outputs: tuple[Any, ...] | None = None  # in memory, for as long as a consumer may need them
    holders: set[str] = field(default_factory=set)  # the consumers that may still need `outputs`
    manifest: dict[str, Any] | None = None
    is_finished: bool = False  # the report of its success is committed
    retry_at: datetime | None = None
    may_retry: bool = False  # waiting, and that is committed
    returned_nothing: bool = False
    error: str | None = None

    @property
    def name(self) -> str:
        return self.block.name

    @property
    def writes_outside(self) -> bool:
        """Say whether its inputs must be finished first. SQL blocks write tables, whatever their type."""
        return self.block.type is BlockType.DATA_EXPORTER or self.block.language == "sql"

    @property
    def can_start(self) -> bool:
        if self.state is not State.PENDING:
            return False
        if any(node.state not in (State.SUCCEEDED, State.ABSENT) for node in self.upstream):
            return False
        return not self.writes_outside or all(
            node.is_finished or node.state is State.ABSENT for node in self.upstream
        )

    @property
    def is_to_start(self) -> bool:
        """Say whether it will want its inputs for the first time in this process."""
        return self.state in (State.PENDING, State.READY)

    def verdict_without_running(self) -> State | None:
        """Return what becomes of a pending block whose inputs will never come; None for all others."""
        if self.state is not State.PENDING:
            return None
        if any(node.state.is_broken for node in self.upstream):
            return State.UPSTREAM_FAILED
        if any(node.state is State.SKIPPED for node in self.upstream):
            return State.SKIPPED
        return None

    def hold(self, outputs: tuple[Any, ...]) -> None:
        """Keep outputs for the consumers that will run."""
        wanted = (State.PENDING, State.WAITING)
        self.holders = {node.name for node in self.consumers if node.state in wanted}
        self.outputs = outputs if self.holders else None

    def release(self, consumers: Iterable[Node]) -> None:
        """Let the memory go once no consumer needs it: what is stored can be read again."""
        self.holders.difference_update(node.name for node in consumers)
        if not self.holders:
            self.outputs = None


def plan(spec: RunSpec, checkpoints: Checkpoints) -> dict[str, Node]:
    """Return the nodes of a run in topological order, as earlier claims left them."""
    nodes: dict[str, Node] = {}
    for block in spec.pipeline.blocks:
        progress = spec.progress.get(block.name, BlockProgress())
        node = _node(block, progress, checkpoints)
        if spec.selection and block.name not in spec.selection:
            node.state = State.SUCCEEDED if node.manifest is not None else State.ABSENT
        node.upstream = [nodes[name] for name in block.upstream]
        for upstream in node.upstream:
            upstream.consumers.append(node)
        nodes[block.name] = node
    _run_lost_outputs_again(list(nodes.values()))
    return nodes


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED})


def _node(block: Block, progress: BlockProgress, checkpoints: Checkpoints) -> Node:
    # An upstream_failed block is looked at anew: its upstream may have been given another try.
    known = progress.state in (*_FINAL, State.WAITING)
    state = State(progress.state) if known else State.PENDING
    node = Node(block, state, progress.attempt, retry_at=progress.retry_at)
    node.may_retry = state is State.WAITING
    stored = progress.checkpoint
    if state is State.SUCCEEDED:
        node.is_finished = True
        if stored is not None and not progress.volatile and checkpoints.has(stored):
            node.manifest = dict(stored)
    return node


def _run_lost_outputs_again(nodes: list[Node]) -> None:
    """Put finished blocks back whose output was not stored and is wanted by a block that will run."""
    doomed: set[str] = set()
    for node in nodes:
        broken = any(upstream.state.is_broken or upstream.name in doomed for upstream in node.upstream)
        if broken and node.state is State.PENDING:
            doomed.add(node.name)
    for node in reversed(nodes):
        lost = node.state is State.SUCCEEDED and node.manifest is None
        wanted = any(
            consumer.state in (State.PENDING, State.WAITING) and consumer.name not in doomed
            for consumer in node.consumers
        )
        if lost and wanted:
            node.state, node.is_finished = State.PENDING, False
