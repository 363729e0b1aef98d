"""What the tests of running need: pipelines from source texts, a listener that keeps what it hears."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.checkpoints import Checkpoints
from pipelines.crash import CrashPoints
from pipelines.io.config import Profiles
from pipelines.model import Block, BlockType, Pipeline
from pipelines.run import BlockProgress, BlockReport, RunResult, RunSpec, execute
from pipelines.secrets import Secrets
from pipelines.variables import RunFacts

EXECUTION_DATE = datetime(2024, 1, 2, 5, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Listener:
    """Keeps what it is told, in order; commits at once unless `commit` says otherwise."""

    commit: Callable[[BlockReport, Future[None]], None] = lambda report, future: future.set_result(None)
    calls: list[tuple[str, str]] = field(default_factory=list)  # ("started" | state, block)
    reports: list[BlockReport] = field(default_factory=list)
    lines: list[tuple[str | None, str, str]] = field(default_factory=list)  # block, level, text

    def block_started(self, block: str, attempt: int, at: datetime) -> None:
        self.calls.append(("started", block))

    def block_expanded(
        self, block: str, attempt: int, at: datetime, children: Sequence[tuple[str, int]]
    ) -> None:
        self.calls.append(("expanded", block))

    def block_ended(self, report: BlockReport) -> Future[None]:
        self.calls.append((report.state, report.block))
        self.reports.append(report)
        future: Future[None] = Future()
        self.commit(report, future)
        return future

    def log(self, block: str | None, attempt: int, level: str, text: str, at: datetime) -> None:
        self.lines.append((block, level, text))

    def report(self, block: str) -> BlockReport:
        """Return the last report of a block."""
        return next(report for report in reversed(self.reports) if report.block == block)

    def states(self) -> dict[str, str]:
        return {report.block: report.state for report in self.reports}

    def text_of(self, block: str | None) -> str:
        return "\n".join(text for owner, _, text in self.lines if owner == block)

    def progress(self) -> dict[str, BlockProgress]:
        """Return what a store would know after these reports."""
        return {
            report.block: BlockProgress(
                report.state,
                report.attempt,
                0,
                report.checkpoint,
                report.volatile,
                report.retry_at,
                rows=report.rows,
                error=report.error,
            )
            for report in self.reports
        }


@dataclass
class Bench:
    """A project folder in which pipelines are made of source texts and run."""

    root: Path
    listener: Listener = field(default_factory=Listener)
    drain: threading.Event = field(default_factory=threading.Event)
    crash: CrashPoints = field(default_factory=CrashPoints)
    clock: Callable[[], datetime] = now
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.root / "checkpoints", self.crash)

    def run(self, *blocks: tuple[Block, str], **more: Any) -> RunResult:
        """Run blocks given as (block, source); `more` goes to the RunSpec or the Pipeline."""
        return self.execute(self.spec(*blocks, **more))

    def execute(self, spec: RunSpec) -> RunResult:
        return execute(
            spec,
            self.listener,
            checkpoints=self.checkpoints,
            profiles=Profiles(self.root, environ=self.environ, secrets=Secrets(None, self.environ)),
            crash=self.crash,
            clock=self.clock,
            drain=self.drain,
        )

    def spec(
        self,
        *blocks: tuple[Block, str],
        variables: Mapping[str, Any] | None = None,
        progress: Mapping[str, BlockProgress] | None = None,
        selection: tuple[str, ...] = (),
        **pipeline: Any,
    ) -> RunSpec:
        graph = Pipeline(
            "shop", "pipelines/shop/metadata.yaml", tuple(block for block, _ in blocks), **pipeline
        )
        return RunSpec(
            facts=RunFacts("run-1", "project", "shop", None, EXECUTION_DATE),
            root=self.root,
            pipeline=graph,
            sources={block.path: source for block, source in blocks},
            variables=variables or {},
            progress=progress or {},
            selection=selection,
        )

    def outputs(self, block: str) -> tuple[Any, ...]:
        """Return what is stored of a block."""
        manifest = self.listener.report(block).checkpoint
        assert manifest is not None
        return self.checkpoints.load(manifest)


def python(name: str, source: str, *upstream: str, **more: Any) -> tuple[Block, str]:
    """Return a Python block whose type is told by the decorator its source uses first."""
    kind = next((kind for kind in BlockType if f"@{kind.value}" in source), BlockType.CUSTOM)
    return Block(name, kind, "python", f"{kind.folder}/{name}.py", upstream, **more), source
