"""A table of the BigQuery emulator, and a query over all of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.parts.bigquery import PROJECT, BigQueryEmulator
from tests.sensors.rig import Rig


class BigQueryRig(Rig):
    part: ClassVar[str | None] = "bigquery"

    def __init__(self, scratch: Path, server: BigQueryEmulator) -> None:
        super().__init__(scratch, server)
        self._table = server.shared_table("rig INT64, name STRING, content STRING, at TIMESTAMP")
        self._number = server.number()
        self._written: set[str] = set()
        self._endpoint = server.endpoint
        self._waiting: dict[str, str] = {}

    @property
    def options(self) -> Mapping[str, Any]:
        return {
            "query": f"SELECT name, content, at FROM {self._table} WHERE rig = {self._number}",
            "time": "at",
            "project": PROJECT,
            "endpoint": self._endpoint,
        }

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"maximum_bytes_billed": 0, "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        at = (stamp or datetime.now(UTC)).isoformat()
        self._waiting[name] = f"({self._number}, '{name}', '{content}', TIMESTAMP '{at}')"

    def delete(self, name: str) -> None:
        self.settle()
        self._delete([name])

    def settle(self) -> None:
        """Write what was put: one statement costs as much as one row."""
        if not self._waiting:
            return
        self._delete(sorted(self._written & self._waiting.keys()))
        self.server.run(f"INSERT INTO {self._table} VALUES {', '.join(self._waiting.values())}")
        self._written |= self._waiting.keys()
        self._waiting = {}

    def _delete(self, names: Sequence[str]) -> None:
        if names:
            texts = ", ".join(f"'{name}'" for name in names)
            self.server.run(f"DELETE FROM {self._table} WHERE rig = {self._number} AND name IN ({texts})")

    def break_down(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self._endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
