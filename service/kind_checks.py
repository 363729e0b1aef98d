"""Warns of blocks that want a program or an extra which this machine lacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from pipelines.model import Block, BlockType, Problem, Severity
from pipelines.project import Project


def kind_problems(project: Project) -> list[Problem]:
    """Return a warning for each block whose kind cannot run here; elsewhere it may."""
    return [
        Problem(pipeline.file, block.line, Severity.WARNING, f"block '{block.name}': {lack}", pipeline.name)
        for pipeline in project.pipelines.values()
        for block in pipeline.blocks
        for lack in _lacks(block)
    ]


def _lacks(block: Block) -> Iterator[str]:
    if block.kind == "r" and shutil.which("Rscript") is None:
        yield "R is not installed here (no Rscript on the path), so the block would be skipped"
    if block.type is BlockType.DATA_INTEGRATION and find_spec("dlt") is None:
        yield "dlt is not installed here, so the block would fail; install the extra `dlt`"
    if block.checks and find_spec("pandera") is None:
        yield "pandera is not installed here, so its checks would fail; install the extra `checks`"
