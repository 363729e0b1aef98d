"""Engines, by their heartbeats."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from service.store.database import Transaction
from service.store.statements import upsert
from service.store.tables import engines

FORGOTTEN_AFTER = timedelta(days=1)

_BEAT = upsert(engines, "beat_at", "slots")
_BURY = delete(engines).where(engines.c.beat_at < bindparam("before"))
_GONE = delete(engines).where(engines.c.id == bindparam("engine_id"))


@dataclass(frozen=True, slots=True)
class EngineRow:
    id: str
    host: str
    pid: int
    slots: int
    version: str
    started_at: datetime
    beat_at: datetime


def beat(tx: Transaction, engine_id: str, *, slots: int = 0, version: str = "") -> None:
    """Show that the engine in this process lives. Forgets engines that were silent for a day."""
    row = {
        "id": engine_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slots": slots,
        "version": version,
        "started_at": tx.now,
        "beat_at": tx.now,
    }
    tx.connection.execute(_BEAT[tx.database.dialect], row)
    tx.connection.execute(_BURY, {"before": tx.now - FORGOTTEN_AFTER})


def leave(tx: Transaction, engine_id: str) -> None:
    """Take an engine that stopped in order off the list."""
    tx.connection.execute(_GONE, {"engine_id": engine_id})


def listing(connection: Connection) -> list[EngineRow]:
    """Return the engines that are known, the newest first."""
    rows = connection.execute(
        select(
            engines.c.id,
            engines.c.host,
            engines.c.pid,
            engines.c.slots,
            engines.c.version,
            engines.c.started_at,
            engines.c.beat_at,
        ).order_by(engines.c.started_at.desc())
    )
    return [EngineRow(*row) for row in rows]


def alive(connection: Connection, *, now: datetime, within: timedelta) -> list[EngineRow]:
    """Return the engines that showed themselves within that time."""
    return [engine for engine in listing(connection) if now - engine.beat_at <= within]
