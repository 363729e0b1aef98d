"""A bucket of the Cloud Storage emulator."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.parts.gcs import GcsEmulator
from tests.sensors.rig import Rig


class GcsRig(Rig):
    part: ClassVar[str | None] = "gcs"

    def __init__(self, scratch: Path, server: GcsEmulator) -> None:
        super().__init__(scratch, server)
        self.bucket = server.make_bucket()
        self._endpoint = server.endpoint

    @property
    def options(self) -> Mapping[str, Any]:
        return {"bucket": self.bucket, "pattern": "*.csv", "endpoint": self._endpoint}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"pattern": "*.csv", "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        self.server.put(self.bucket, f"{name}.csv", content.encode(), stamp=stamp)

    def delete(self, name: str) -> None:
        self.server.delete(self.bucket, f"{name}.csv")

    def break_down(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self._endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
