"""Processes that a block started and did not end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import psutil

COLLECT_SECONDS = 2.0

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Make grandchildren whose parent ends children of this process, where the system can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> list[str]:
    """Kill every descendant of this process and collect it; return how each was called."""
    if not _has_children():
        return []
    descendants = psutil.Process().children(recursive=True)
    ended = []
    for process in descendants:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                ended.append(f"{process.name()} (pid {process.pid})")
            process.kill()
    psutil.wait_procs(descendants, timeout=COLLECT_SECONDS)
    return ended


def _has_children() -> bool:
    # Costs microseconds, where looking through all processes costs milliseconds.
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
