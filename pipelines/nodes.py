"""The blocks of one run as nodes: their states, what they hold for others, and what lets them start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    EXPANDED = "expanded"  # a controller whose children are not over yet
    WAITING = "waiting"  # a retry, or a sensor's next look, is due at `retry_at`
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    ABSENT = "absent"  # not selected, and nothing stored of it

    @property
    def is_broken(self) -> bool:
        return self in (State.FAILED, State.UPSTREAM_FAILED)

    @property
    def is_open(self) -> bool:
        """Say whether a commit or a moment may still let it start."""
        return self in (State.PENDING, State.WAITING)

    @property
    def is_over(self) -> bool:
        return self in _OVER


_OVER = frozenset({State.SUCCEEDED, State.FAILED, State.UPSTREAM_FAILED, State.SKIPPED, State.ABSENT})
_GOOD = (State.SUCCEEDED, State.ABSENT)
_PARKED_TYPES = (BlockType.SENSOR, BlockType.GLOBAL_DATA_PRODUCT)  # while what they wait for is not there


_REASONS: Sequence[tuple[str, Callable[[State], bool]]] = (
    ("failed", lambda state: state is State.FAILED),
    ("did not run", lambda state: state is State.UPSTREAM_FAILED),
    ("was skipped", lambda state: state is State.SKIPPED),
)


@dataclass(eq=False)
class Node:
    """One block in one run, or one child of a block that runs once for each item. Changed only under the
    walk's lock.

    A block that has children is their *controller*: it runs no code itself.
    """

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
    rows: int | None = None
    deaths: int = 0  # how often the process died under it
    was_killed: bool = False  # it failed by being ended from outside: its callbacks have not heard of it
    first_started_at: datetime | None = None  # over all tries and looks
    was_parked: bool = False  # a sensor that has looked before
    is_controller: bool = False
    children: list[Node] | None = None  # of a controller, once they are known
    open_children: int = 0
    parent: Node | None = None  # of a child: its controller
    item: int | None = None  # of a child: its number
    coordinates: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # see `pipelines.dynamic`
    given: dict[int, Any] = field(default_factory=dict)  # of a child: by place of the input, the item for it
    keywords: Mapping[str, Any] = field(default_factory=dict)  # of a child: what the items bring along

    @property
    def name(self) -> str:
        return self.block.name

    @property
    def declared(self) -> str:
        """The name of its block in the pipeline's file."""
        return self.name if self.parent is None else self.parent.name

    @property
    def writes_outside(self) -> bool:
        """Say whether its inputs must be finished first. SQL blocks write tables, whatever their type."""
        return self.block.type is BlockType.DATA_EXPORTER or self.block.language == "sql"

    @property
    def gives_items(self) -> bool:
        return self.block.is_dynamic

    @property
    def gives_children(self) -> bool:
        """Say whether each of its children has a child of its own in the blocks that follow."""
        return self.is_controller and not self.block.is_dynamic and not self.block.reduces_output

    @property
    def gave(self) -> bool:
        """Say whether it has an output, or should have: one that is absent is asked for it, and says so."""
        return self.state in _GOOD

    @property
    def is_source(self) -> bool:
        """Say whether what follows runs more than once because of it."""
        return self.gives_items or self.gives_children

    @property
    def can_start(self) -> bool:
        if self.state is not State.PENDING:
            return False
        if not may_start(self.block.trigger_rule, self._seen_states()):
            return False
        if self.is_controller or not self.writes_outside:
            return True
        return all(node.is_finished or node.state is not State.SUCCEEDED for node in self.upstream)

    @property
    def is_to_start(self) -> bool:
        """Say whether it will want its inputs for the first time in this process."""
        return self.state in (State.PENDING, State.READY)

    @property
    def may_start_again(self) -> bool:
        """Say whether it may want its inputs once more: for another try, or another look."""
        return self.block.retry.retries > 0 or self.block.type in _PARKED_TYPES

    @property
    def may_take_more(self) -> bool:
        """Say whether it will want outputs of blocks that end now: one that expands, for its children."""
        return self.state.is_open or (self.is_controller and self.state in (State.READY, State.RUNNING))

    def verdict_without_running(self) -> State | None:
        """Return what becomes of a pending block whose inputs will never come; None for all others."""
        if self.state is not State.PENDING:
            return None
        return verdict(self.block.trigger_rule, self._seen_states())

    def reason_without_running(self) -> str | None:
        """Return which upstream block keeps it from running."""
        for word, is_so in _REASONS:
            names = [repr(node.name) for node in self.upstream if is_so(node.state)]
            if names:
                return f"its upstream block {', '.join(names)} {word}"
        return None

    def _seen_states(self) -> list[State]:
        """Return the states of what it needs. A controller needs no more of another than its children."""
        return [
            State.SUCCEEDED
            if self.is_controller and node.gives_children and node.children is not None
            else node.state
            for node in self.upstream
        ]

    def hold(self, outputs: tuple[Any, ...]) -> None:
        """Keep outputs for the consumers that will run."""
        self.holders = {node.name for node in self.consumers if node.may_take_more}
        self.outputs = outputs if self.holders else None

    def release(self, consumers: Iterable[Node]) -> None:
        """Let the memory go once no consumer needs it: what is stored can be read again."""
        for child in self.children or ():
            child.release(consumers)
        self.holders.difference_update(node.name for node in consumers)
        if not self.holders:
            self.outputs = None


def may_start(rule: str, states: Sequence[State]) -> bool:
    """Say whether a block whose upstream blocks are in these states may start, by its `trigger_rule`."""
    if rule == "all_success":
        return all(state in _GOOD for state in states)
    if not all(state.is_over for state in states):
        return False
    if rule == "one_success":
        return any(state in _GOOD for state in states)
    return rule == "all_done" or not any(state.is_broken for state in states)


def verdict(rule: str, states: Sequence[State]) -> State | None:
    """Return what becomes of a block that will never start by its rule; None while it still may."""
    if rule == "all_done" or (rule == "one_success" and not all(state.is_over for state in states)):
        return None
    if rule == "one_success" and any(state in _GOOD for state in states):
        return None
    if any(state.is_broken for state in states):
        return State.UPSTREAM_FAILED
    if rule != "none_failed" and State.SKIPPED in states:
        return State.SKIPPED
    return None


def plan(spec: RunSpec, checkpoints: Checkpoints) -> dict[str, Node]:
    """Return the nodes of a run in topological order, as earlier claims left them. Children come later."""
    nodes: dict[str, Node] = {}
    for block in spec.pipeline.blocks:
        node = node_of(block, spec.progress.get(block.name, BlockProgress()), checkpoints)
        if spec.selection and block.name not in spec.selection:
            node.state = State.SUCCEEDED if node.manifest is not None else State.ABSENT
        node.upstream = [nodes[name] for name in block.upstream]
        node.is_controller = any(upstream.is_source for upstream in node.upstream)
        for upstream in node.upstream:
            upstream.consumers.append(node)
        nodes[block.name] = node
    _run_lost_outputs_again(list(nodes.values()))
    return nodes


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.SKIPPED})


def node_of(block: Block, progress: BlockProgress, checkpoints: Checkpoints) -> Node:
    """Return the node of a block as an earlier claim left it."""
    # An upstream_failed block is looked at anew: its upstream may have been given another try.
    known = progress.state in (*_FINAL, State.WAITING)
    state = State(progress.state) if known else State.PENDING
    node = Node(
        block,
        state,
        progress.attempt,
        retry_at=progress.retry_at,
        may_retry=state is State.WAITING,
        error=progress.error if state is State.FAILED else None,
        rows=progress.rows,
        deaths=progress.deaths,
        was_killed=progress.killed,
        was_parked=state is State.WAITING,
        first_started_at=progress.first_started_at,
    )
    stored = progress.checkpoint
    if state is State.SUCCEEDED:
        node.is_finished = True
        if stored is not None and not progress.volatile and checkpoints.has(stored):
            node.manifest = dict(stored)
    return node


def _run_lost_outputs_again(nodes: list[Node]) -> None:
    """Put finished blocks back whose output was not stored and is wanted by a block that will run.

    The children of a controller are nobody's to store: it expands again, and finds them finished.
    """
    doomed: set[str] = set()
    for node in nodes:
        broken = any(
            upstream.name in doomed or (upstream.state.is_broken and not upstream.is_controller)
            for upstream in node.upstream
        )
        if broken and node.state is State.PENDING and node.block.trigger_rule == "all_success":
            doomed.add(node.name)
    for node in reversed(nodes):
        if not any(consumer.state.is_open and consumer.name not in doomed for consumer in node.consumers):
            continue
        lost = node.state is State.SUCCEEDED and node.manifest is None
        if lost or (node.is_controller and node.state is State.FAILED):
            node.state, node.is_finished = State.PENDING, False
