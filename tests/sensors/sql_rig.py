"""A table that a query watches: in SQLite as a whole and by a watermark, in Postgres by a watermark."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import psycopg2

from tests.sensors.rig import Rig

TABLE = "CREATE TABLE things (name TEXT PRIMARY KEY, content TEXT, at {})"
UPSERT = """
INSERT INTO things VALUES ({0}, {0}, {0})
ON CONFLICT (name) DO UPDATE SET content = excluded.content, at = excluded.at
"""
DELETE = "DELETE FROM things WHERE name = {0}"


class _SqlRig(Rig):
    by_watermark: ClassVar[bool] = False

    def __init__(self, scratch: Path, server: Any = None) -> None:
        super().__init__(scratch, server)
        self._waiting: dict[str, tuple[str, str, datetime]] = {}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        self._waiting[name] = (name, content, stamp or datetime.now(UTC))

    def delete(self, name: str) -> None:
        self.settle()
        self.run(DELETE, [(name,)])

    def settle(self) -> None:
        """Write what was put, in one transaction."""
        waiting, self._waiting = self._waiting, {}
        self.run(UPSERT, list(waiting.values()))

    @abstractmethod
    def run(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement once for each row; `{0}` stands for a parameter."""

    @property
    def options(self) -> Mapping[str, Any]:
        watched = {"cursor": "at", "max_rows": 200} if self.by_watermark else {"time": "at"}
        return {"url": self.url, "query": "SELECT name, content, at FROM things", **watched}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"url": self.url, "max_rows": 0, "colour": "red"}

    @property
    @abstractmethod
    def url(self) -> str: ...


class SqliteRig(_SqlRig):
    def __init__(self, scratch: Path, server: Any = None) -> None:
        super().__init__(scratch, server)
        self._file = scratch / "things.db"
        self.run(TABLE.format("TEXT"), [()])

    @property
    def url(self) -> str:
        return f"sqlite:///{self._file}"

    def break_down(self) -> None:
        self._file.rename(self.scratch / "elsewhere.db")

    def settle(self) -> None:
        if self._file.exists():
            super().settle()

    def run(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        texts = [[item.isoformat() if isinstance(item, datetime) else item for item in row] for row in rows]
        with closing(sqlite3.connect(self._file)) as connection, connection:
            connection.executemany(statement.format("?"), texts)


class SqliteByWatermarkRig(SqliteRig):
    by_watermark: ClassVar[bool] = True


class PostgresRig(_SqlRig):
    by_watermark: ClassVar[bool] = True
    part: ClassVar[str | None] = "postgres_url"

    def __init__(self, scratch: Path, server: str) -> None:
        super().__init__(scratch, server)
        self._address = self._shown = server
        self.run(TABLE.format("TIMESTAMPTZ"), [()])

    @property
    def url(self) -> str:
        return self._shown

    def break_down(self) -> None:
        self._shown = "postgresql://nobody@127.0.0.1:1/nowhere"

    def run(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        address = self._address.replace("postgresql+psycopg2://", "postgresql://")
        with closing(psycopg2.connect(address)) as connection, connection, connection.cursor() as cursor:
            cursor.executemany(statement.format("%s"), rows)
