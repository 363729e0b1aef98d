"""A process that is one attempt of a block which exports; killed at a crash point, if one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pandas as pd

import pipelines.io
from pipelines.crash import CrashPoints
from tests.parts.forked import forked
from tests.pipelines.io.projects import running_block

Exports = list[tuple[tuple[Any, ...], dict[str, Any]]]


def attempt(root: Path, connector: str, exports: Exports, point: str, part: int, *, run_id: str) -> int:
    """Make one attempt in a process of its own, and return how that ended.

    It dies at the crash point for the first time in export number `part`, or not at all.
    """
    process = forked(_exports, root, connector, exports, point, part, run_id)
    process.join(60)
    assert process.exitcode is not None, "the attempt did not end"
    return process.exitcode


def _exports(root: Path, connector: str, exports: Exports, point: str, part: int, run_id: str) -> None:
    crash = _LaterCrash(point)
    with running_block(root, run_id=run_id, crash=cast(CrashPoints, crash)):
        made = getattr(pipelines.io, connector).from_profile("default")
        for number, (target, options) in enumerate(exports):
            crash.is_due = number >= part
            made.export(pd.DataFrame({"part": [number] * 3, "row": range(3)}), *target, **options)


class _LaterCrash:
    """Kills the process only where it is due."""

    def __init__(self, name: str) -> None:
        self._points = CrashPoints(name or None)
        self.is_due = False

    def __call__(self, point: str) -> None:
        if self.is_due:
            self._points(point)
