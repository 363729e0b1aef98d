"""What a run is made of, what is told of it while it goes on, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pipelines.calls import ServiceCalls
from pipelines.model import Pipeline
from pipelines.variables import RunFacts


@dataclass(frozen=True, slots=True)
class BlockProgress:
    """How far a block came in earlier claims of the run. States are those of a block run's row."""

    state: str = "queued"
    attempt: int = 0  # tries begun and spent; an interrupted one is not spent
    deaths: int = 0
    checkpoint: Mapping[str, Any] | None = None
    volatile: bool = False
    retry_at: datetime | None = None
    rows: int | None = None
    error: str | None = None
    killed: bool = False  # it failed by being ended from outside, and its callbacks have not heard of it
    first_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run may ask for beside its variables; it is kept as a plain mapping of these names."""

    allow_blocks_to_fail: bool = False
    timeout_seconds: float | None = None  # in place of the pipeline's
    timeout_status: str = "failed"  # or cancelled: how a run over its time ends


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to be executed, pinned: nothing is read from the project but what block code itself reads."""

    facts: RunFacts
    root: Path
    pipeline: Pipeline
    sources: Mapping[str, str]  # path of a block's code -> its text
    variables: Mapping[str, Any]
    progress: Mapping[str, BlockProgress] = field(default_factory=dict)
    selection: tuple[str, ...] = ()  # the only blocks to run; empty means all
    service: ServiceCalls | None = None  # what its blocks may ask for
    options: RunOptions = field(default_factory=RunOptions)

    @property
    def allows_blocks_to_fail(self) -> bool:
        return self.options.allow_blocks_to_fail or self.pipeline.allow_blocks_to_fail


@dataclass(frozen=True, slots=True)
class BlockReport:
    """A block reached `state`: succeeded, failed, waiting (a retry or look), upstream_failed, skipped."""

    block: str
    state: str
    attempt: int
    started_at: datetime | None
    finished_at: datetime
    rows: int | None = None
    error: str | None = None
    retry_at: datetime | None = None
    checkpoint: Mapping[str, Any] | None = None
    volatile: bool = False
    reason: str | None = None  # why it waits, or was skipped


class RunListener(Protocol):
    """Who hears of a run. Called from several threads."""

    def block_started(self, block: str, attempt: int, at: datetime) -> None: ...

    def block_expanded(
        self, block: str, attempt: int, at: datetime, children: Sequence[tuple[str, int]]
    ) -> None:
        """Hear that a block runs as these children, given as name and number, before any of them starts."""
        ...

    def block_ended(self, report: BlockReport) -> Future[None]:
        """Return what completes once the report is committed.

        Called when the checkpoint is durable, and for an upstream block before its downstream blocks.
        An exception in the future ends the run: whoever executes it has lost the right to.
        """
        ...

    def log(self, block: str | None, attempt: int, level: str, text: str, at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run left `execute`: succeeded, failed, waiting until `retry_at`, or stopped before its end."""

    state: str
    error: str | None = None
    retry_at: datetime | None = None
