"""Expands a block that follows a dynamic one into children: one for each item, or for each meeting of items.

A child's *coordinates* say which item of which dynamic block it stands for. Inputs that share a dynamic block
meet where they stand for the same item of it; those that share none meet each with each, or in pairs.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.checkpoints import Checkpoints
from pipelines.errors import BlockCodeError
from pipelines.model import CHILD_MARK, Block, Pipeline
from pipelines.nodes import Node, State, node_of
from pipelines.runspec import BlockProgress, BlockReport

Outputs = tuple[Any, ...]
Coordinates = Mapping[str, tuple[int, str]]  # a dynamic block's name -> number and label of its item

_NOT_IN_LABELS = re.compile(r"[^\w .-]+")
_LONGEST_LABEL = 60
_OWN_KEYS = frozenset(("block_uuid", "upstream_blocks"))  # of an item's metadata; the rest are keywords


@dataclass(frozen=True)
class Item:
    """One item of a dynamic block, and what its metadata says."""

    value: Any
    label: str
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A child to be: by place among the inputs, the node it depends on and the item it is given."""

    coordinates: Coordinates
    sources: Mapping[int, Node]
    given: Mapping[int, Any] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def meet(self, other: Member) -> Member:
        return Member(
            {**self.coordinates, **other.coordinates},
            {**self.sources, **other.sources},
            {**self.given, **other.given},
            {**self.keywords, **other.keywords},
        )


def items_of(block: Block, outputs: Outputs) -> list[Item]:
    """Return what a dynamic block returned as [items] or [items, metadata]. Raises BlockCodeError."""
    wanted = "a dynamic block returns [items], or [items, metadata] with one dictionary for each item"
    where = f"{block.path}: dynamic block {block.name!r}"
    if not 1 <= len(outputs) <= 2:
        what = "nothing" if not outputs else f"{len(outputs)} values"
        raise BlockCodeError(f"{where} returned {what}; {wanted}")
    values = _values(outputs[0])
    if values is None:
        raise BlockCodeError(f"{where} returned a {type(outputs[0]).__name__} for its items; {wanted}")
    metadata = _values(outputs[1]) if len(outputs) == 2 else [{}] * len(values)
    if metadata is None or not all(isinstance(one, Mapping) for one in metadata):
        raise BlockCodeError(f"{where} returned metadata that is no list of dictionaries; {wanted}")
    if len(metadata) != len(values):
        raise BlockCodeError(
            f"{where} returned {len(values)} items and metadata for {len(metadata)}; {wanted}"
        )
    return [
        Item(value, label, {str(key): entry for key, entry in one.items() if key not in _OWN_KEYS})
        for value, one, label in zip(values, metadata, _labels(metadata), strict=True)
    ]


def _values(output: Any) -> list[Any] | None:
    """Return the items of a list, or the rows of a frame as dictionaries; None for anything else."""
    if isinstance(output, pd.DataFrame):
        return list(output.to_dict("records"))
    if isinstance(output, (pa.Table, pa.RecordBatch)):
        return list(output.to_pylist())
    if isinstance(output, pd.Series) or type(output).__module__ == "numpy":
        return list(output.tolist()) if hasattr(output, "tolist") and output.ndim == 1 else None
    if isinstance(output, (list, tuple)):
        return list(output)
    if hasattr(output, "to_dicts"):  # polars
        return list(output.to_dicts())
    return None


def _labels(metadata: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each item, each only once: what its metadata says, else its number."""
    labels: dict[str, None] = {}
    for number, one in enumerate(metadata):
        wanted = _NOT_IN_LABELS.sub("_", str(one.get("block_uuid") or "")).strip()[:_LONGEST_LABEL]
        label = wanted or str(number)
        while label in labels:
            label = f"{label}_{number}"
        labels[label] = None
    return list(labels)


def members(node: Node, outputs: Callable[[Node], Outputs], *, most: int) -> list[Member]:
    """Return the children that `node` is to have; `outputs` reads what a dynamic block returned.

    Where the node runs although a source of its children failed or was skipped, that one counts as a block
    that gave nothing. Raises BlockCodeError when there would be more than `most`, or when pairs do not come
    out even.
    """
    sides = [
        _members_of(upstream, place, outputs)
        for place, upstream in enumerate(node.upstream)
        if upstream.is_source and (upstream.children is not None or upstream.gave)
    ]
    if not sides:
        return []
    is_zipped = node.block.configuration.get("dynamic_combine") == "zip"
    found = _pairs(node, sides) if is_zipped else sides[0]
    if not is_zipped:
        for side in sides[1:]:
            found = _meetings(node, found, side, most)
    _check_count(node, len(found), most)
    return found


def child_block(node: Node, member: Member) -> Block:
    """Return the block of a child: named by its items, with tables of its own."""
    suffix = CHILD_MARK.join(label for _, label in member.coordinates.values() if label)
    upstream = [member.sources.get(place, one).name for place, one in enumerate(node.upstream)]
    return dataclasses.replace(
        node.block,
        name=f"{node.name}{CHILD_MARK}{suffix}",
        upstream=tuple(upstream),
        configuration=_configuration(node.block, suffix),
    )


def surroundings(pipeline: Pipeline, node: Node) -> Pipeline:
    """Return the pipeline as one of its nodes sees it: children stand by their own names beside it.

    SQL blocks read the tables of others in place; where a block is given one item, or a list of all, there is
    no table to read, so its neighbour looks like one that has none.
    """
    if not (node.parent or node.is_source or any(one.is_controller for one in node.upstream)):
        return pipeline
    blocks = {node.name: node.block}
    for place, upstream in enumerate(node.upstream):
        as_table = place not in node.given and not upstream.is_controller
        blocks[upstream.name] = upstream.block if as_table else _without_table(upstream.block)
    for name in pipeline.downstream(node.declared):
        block = pipeline.block(name)
        renamed = tuple(node.name if one == node.declared else one for one in block.upstream)
        follower = dataclasses.replace(block, upstream=renamed)
        is_one_to_one = node.parent is not None and node.parent.gives_children
        blocks[name] = follower if is_one_to_one else _without_table(follower)
    return dataclasses.replace(pipeline, blocks=tuple(blocks.values()))


def _without_table(block: Block) -> Block:
    return dataclasses.replace(block, language="python")


def _configuration(block: Block, suffix: str) -> Mapping[str, Any]:
    """Give a SQL child a table of its own. A template in the table's name can tell children apart itself."""
    table = block.configuration.get("data_provider_table")
    if block.kind != "sql" or not isinstance(table, str) or not table or "{{" in table:
        return block.configuration
    own = re.sub(r"[^\w]+", "_", suffix)
    return {**block.configuration, "data_provider_table": f"{table}__{own}"}


def _members_of(upstream: Node, place: int, outputs: Callable[[Node], Outputs]) -> list[Member]:
    if upstream.gives_children and upstream.children is not None:
        return [
            Member(child.coordinates, {place: child}, keywords=child.keywords) for child in upstream.children
        ]
    givers = upstream.children if upstream.children is not None else [upstream]
    return [
        Member(
            {**giver.coordinates, upstream.name: (number, item.label)},
            {place: giver},
            {place: item.value},
            {**giver.keywords, **item.keywords},
        )
        for giver in givers
        if giver.gave
        for number, item in enumerate(items_of(giver.block, outputs(giver)))
    ]


def _meetings(node: Node, left: list[Member], right: list[Member], most: int) -> list[Member]:
    if not left or not right:
        return []
    shared = [axis for axis in left[0].coordinates if axis in right[0].coordinates]
    by_place: dict[tuple[Any, ...], list[Member]] = defaultdict(list)
    for member in right:
        by_place[_place(member, shared)].append(member)
    _check_count(node, sum(len(by_place[_place(member, shared)]) for member in left), most)
    return [one.meet(other) for one in left for other in by_place[_place(one, shared)]]


def _place(member: Member, axes: Sequence[str]) -> tuple[int, ...]:
    return tuple(member.coordinates[axis][0] for axis in axes)


def _pairs(node: Node, sides: Sequence[list[Member]]) -> list[Member]:
    if len({len(side) for side in sides}) > 1:
        counts = " and ".join(str(len(side)) for side in sides)
        raise BlockCodeError(
            f"block {node.name!r} pairs its inputs (dynamic_combine: zip), but they have {counts} items; "
            f"return as many from each, or leave dynamic_combine out to combine each with each"
        )
    found = sides[0]
    for side in sides[1:]:
        found = [_pair(one, other) for one, other in zip(found, side, strict=True)]
    return found


def _pair(one: Member, other: Member) -> Member:
    """Let two items meet as one: a label that both have stands in the child's name once."""
    known = {label for _, label in one.coordinates.values()}
    others = {
        axis: (number, "" if label in known else label) for axis, (number, label) in other.coordinates.items()
    }
    return one.meet(dataclasses.replace(other, coordinates=others))


def _check_count(node: Node, count: int, most: int) -> None:
    if count > most:
        raise BlockCodeError(
            f"block {node.name!r} would have {count:,} children, and {most:,} are allowed; "
            f"let each item hold more of the work, or raise `dynamic_child_limit` in the pipeline's "
            f"concurrency_config"
        )


def make_children(
    controller: Node,
    found: Sequence[Member],
    progress: Mapping[str, BlockProgress],
    checkpoints: Checkpoints,
) -> list[Node]:
    """Return the nodes of a controller's children, as earlier claims left them, linked upwards only.

    What a finished child returned may be lost, and wanted: then it runs again.
    """
    is_wanted = any(consumer.state.is_open for consumer in controller.consumers)
    children = []
    for number, member in enumerate(found):
        block = child_block(controller, member)
        child = node_of(block, progress.get(block.name, BlockProgress()), checkpoints)
        child.parent, child.item = controller, number
        child.coordinates, child.keywords = member.coordinates, member.keywords
        child.upstream = [member.sources.get(place, one) for place, one in enumerate(controller.upstream)]
        child.given = dict(member.given)
        if child.state is State.SUCCEEDED and child.manifest is None and is_wanted:
            child.state, child.is_finished = State.PENDING, False
        children.append(child)
    return children


def adopt(controller: Node, children: list[Node]) -> None:
    """Put the children into the graph. The caller holds the walk's lock."""
    controller.children = children
    controller.open_children = sum(not child.state.is_over for child in children)
    for child in children:
        child.consumers = list(controller.consumers)
        if child.state.is_over:
            continue
        for place, source in enumerate(child.upstream):
            source.consumers.append(child)
            if place not in child.given:
                _hold_for(child, source)
    for upstream in controller.upstream:
        upstream.release([controller])


def _hold_for(child: Node, source: Node) -> None:
    """Keep in memory what the child will read of a source; of a controller, of all of its children."""
    for giver in source.children if source.children is not None else (source,):
        if giver.outputs is not None:
            giver.holders.add(child.name)


def conclusion(controller: Node, now: datetime) -> BlockReport:
    """Return the end of a controller: what its children came to, and the sum of their rows."""
    children = controller.children or []
    states = Counter(child.state for child in children)
    rows = [child.rows for child in children if child.rows is not None]
    ended = BlockReport(
        controller.name, State.SUCCEEDED, controller.attempt, None, now, rows=sum(rows) if rows else None
    )
    if states[State.FAILED]:
        first = next(child for child in children if child.state is State.FAILED)
        error = (
            f"{states[State.FAILED]} of {len(children)} children failed; first {first.name!r}: {first.error}"
        )
        return dataclasses.replace(ended, state=State.FAILED, error=error)
    if states[State.UPSTREAM_FAILED]:
        reason = f"of {states[State.UPSTREAM_FAILED]} of its {len(children)} children the upstream failed"
        return dataclasses.replace(ended, state=State.UPSTREAM_FAILED, reason=reason)
    if children and states[State.SKIPPED] == len(children):
        return dataclasses.replace(ended, state=State.SKIPPED, reason="all of its children were skipped")
    return ended
