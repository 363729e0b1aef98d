"""A process that is one attempt of a block which exports; killed at a crash point, if one is named.

Forked from a server that has loaded the data libraries once: an attempt costs no start of Python.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any, cast

import pandas as pd

import pipelines.io
from pipelines.crash import CrashPoints
from pipelines.io import CONNECTORS
from tests.pipelines.io.projects import running_block

_MODULES = [__name__, *CONNECTORS.values(), "pymysql", "polars"]


Exports = list[tuple[tuple[Any, ...], dict[str, Any]]]


def attempt(root: Path, connector: str, exports: Exports, point: str, part: int, *, run_id: str) -> int:
    """Make one attempt in a process of its own, and return how that ended.

    It dies at the crash point for the first time in export number `part`, or not at all.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    process = context.Process(target=_exports, args=(root, connector, exports, point, part, run_id))
    process.start()
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
