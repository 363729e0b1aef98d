"""The turn to write. SQLite lets one writer in at a time and makes others poll; this makes them queue."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path


class WriteLock:
    """A lock between threads and processes, held for one write transaction.

    SQLite's own busy handler sleeps and tries again, and a waiter can starve behind processes that come
    later; the kernel wakes the next waiter of a file lock at once. Readers never take it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._descriptor: int | None = None

    def acquire(self) -> None:
        # Two threads share one open file, for which flock excludes nobody: hence a lock for each level.
        self._threads.acquire()
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        with self._threads:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor
