"""Processes that are forked from a server which has loaded what they need: to start one costs no imports."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

from pipelines.io import CONNECTORS

# Of all tests: a process has one such server, and what it is told to load later it does not load.
_LOADED = [
    *CONNECTORS.values(),
    *(f"service.cli.{name}" for name in ("backfill", "check", "events", "init", "run", "runs", "trigger")),
    "polars",
    "pymysql",
    "tests.acceptance.crash_scenario",
    "tests.pipelines.io.exporting_child",
]


def forked(target: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """Return the running process of a call."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process
