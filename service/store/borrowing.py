"""Connections for writing: each thread keeps its own between transactions that follow each other closely."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from sqlalchemy import Connection, Engine

REST_SECONDS = 1.0  # one that rested for longer goes back to the pool, which looks whether it still lives


class WriteConnections:
    """To take a connection from the pool and give it back costs a fifth of a small transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._local = threading.local()
        self._open: WeakSet[Connection] = WeakSet()  # a thread that ends lets go of its own

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """Yield this thread's connection. The body ends its transaction; a failure gives it up."""
        connection = self._kept() or self._taken()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._local.used_at = time.monotonic()

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    def _kept(self) -> Connection | None:
        kept: Connection | None = getattr(self._local, "connection", None)
        if kept is None or kept.closed:
            return None
        if time.monotonic() - self._local.used_at < REST_SECONDS:
            return kept
        kept.close()
        return None

    def _taken(self) -> Connection:
        taken = self._engine.connect()
        self._local.connection = taken
        self._local.used_at = time.monotonic()
        self._open.add(taken)
        return taken
