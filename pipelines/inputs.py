"""Reads what blocks get from the blocks before them: from memory while it is there, else as it was stored."""

from __future__ import annotations

import threading
from typing import Any

from pipelines.blocks.python import input_of
from pipelines.checkpoints import Checkpoints
from pipelines.errors import BlockCodeError
from pipelines.handover import own_copies, own_copy
from pipelines.nodes import Node, State


class Inputs:
    """The inputs of the blocks of one walk. `lock` is the one that guards its nodes."""

    def __init__(self, checkpoints: Checkpoints, lock: threading.Condition) -> None:
        self._checkpoints = checkpoints
        self._lock = lock

    def of(self, node: Node) -> list[Any]:
        """Return this block's own copies of its inputs, and let the memory go that nobody else needs."""
        inputs = [
            own_copy(node.given[place]) if place in node.given else self._from(upstream, node)
            for place, upstream in enumerate(node.upstream)
        ]
        with self._lock:
            for upstream in node.upstream:
                if upstream.manifest is not None or not node.may_start_again:
                    upstream.release([node])
        return inputs

    def outputs(self, giver: Node, taker: Node) -> tuple[Any, ...]:
        """Return the taker's own copies of all that `giver` returned."""
        if giver.state is State.ABSENT:
            raise BlockCodeError(
                f"block {taker.name!r} needs the output of {giver.name!r}, which was not selected to "
                f"run and has no stored output in this run; select it as well (--with-upstream)"
            )
        with self._lock:
            outputs, manifest = giver.outputs, giver.manifest
        if outputs is not None:
            return own_copies(outputs)
        assert manifest is not None
        return self._checkpoints.load(manifest)

    def _from(self, giver: Node, taker: Node) -> Any:
        if giver.children is not None:
            return self._from_all(giver, taker)
        if giver.state not in (State.SUCCEEDED, State.ABSENT):
            return None  # it failed or was skipped, and the taker's trigger_rule lets it run all the same
        return input_of(self.outputs(giver, taker))

    def _from_all(self, controller: Node, taker: Node) -> list[Any]:
        """Return one flat list of what all children returned. Those that failed or were skipped have none."""
        return [
            output
            for child in controller.children or ()
            if child.state is State.SUCCEEDED
            for output in self.outputs(child, taker)
        ]
