"""What a running block knows of itself, for the connectors and the kinds of block that execute in it."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.crash import CrashPoints
from pipelines.model import Block, Pipeline

if TYPE_CHECKING:
    from pipelines.calls import ServiceCalls
    from pipelines.checkpoints import Checkpoints
    from pipelines.io.config import Profiles
    from pipelines.spooling import Spools


class EffectCounter:
    """Names the writes of one block, so that a write that is already there is not done again.

    The name is made of the run, the block, the target and how many writes to that target came
    before in this attempt. It is the same over all attempts, as long as the block writes to each
    target in the same order. One counter serves one attempt; it may be used by several threads.
    """

    def __init__(self, run_id: str, block: str) -> None:
        self._run_id = run_id
        self._block = block
        self._calls: Counter[str] = Counter()
        self._rows = 0
        self.in_batches = False  # the block's function is called for each batch of its input
        self._replaced: set[str] = set()
        self._lock = threading.Lock()

    def next(self, target: str) -> str:
        """Return the effect id of the next write to `target`."""
        with self._lock:
            self._calls[target] += 1
            call = self._calls[target]
        digest = hashlib.sha256("\0".join((self._run_id, self._block, target, str(call))).encode())
        return f"{self._run_id}.{self._block}.{digest.hexdigest()[:16]}"

    def replaces(self, target: str) -> bool:
        """Say whether a write that says so replaces its target: of the writes of batches, only the first."""
        with self._lock:
            is_first = target not in self._replaced
            self._replaced.add(target)
        return is_first or not self.in_batches

    def wrote(self, rows: int) -> None:
        """Count rows that a connector wrote, or found written by an earlier attempt."""
        with self._lock:
            self._rows += rows

    @property
    def rows(self) -> int:
        """How many rows the block has exported in this attempt."""
        return self._rows


@dataclass(frozen=True)
class BlockContext:
    """One attempt of one block, as seen from inside."""

    run_id: str
    project: str
    root: Path
    pipeline: Pipeline
    block: Block
    attempt: int
    keywords: Mapping[str, Any]  # everything the block receives by keyword
    upstream: tuple[str, ...]
    source: str  # the block's code, as pinned for this run
    profiles: Profiles
    logger: logging.Logger
    effects: EffectCounter
    spools: Spools | None = None  # where outputs larger than memory go
    crash: CrashPoints = field(default_factory=CrashPoints)
    home: Path | None = None  # the state folder, for what a kind of block keeps from run to run
    service: ServiceCalls | None = None  # what the block may ask for; None where nobody could do it
    checkpoints: Checkpoints | None = None  # to read what other runs stored


# Set by whoever runs a block, in the thread that runs it; None outside of blocks.
current_block: ContextVar[BlockContext | None] = ContextVar("current_block", default=None)
