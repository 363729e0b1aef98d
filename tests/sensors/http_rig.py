"""A resource of a local HTTP server: a list of things as JSON, with an ETag."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.parts.http_site import HttpSite
from tests.sensors.rig import Rig


class HttpRig(Rig):
    part: ClassVar[str | None] = "http_site"

    def __init__(self, scratch: Path, server: HttpSite) -> None:
        super().__init__(scratch, server)
        self._url = f"{server.url}/things"
        self._things: dict[str, dict[str, Any]] = {}
        self.settle()

    @property
    def options(self) -> Mapping[str, Any]:
        return {"url": self._url, "items": "$.data.things", "time": "at", "allow_private": True}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"url": "ftp://127.0.0.1/things", "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        self._things[name] = {
            "name": name,
            "content": content,
            "at": (stamp or datetime.now(UTC)).isoformat(),
        }

    def delete(self, name: str) -> None:
        del self._things[name]

    def settle(self) -> None:
        body = json.dumps({"data": {"things": list(self._things.values())}}).encode()
        etag = '"' + hashlib.sha256(body).hexdigest() + '"'
        self.server.serve("/things", body, {"Content-Type": "application/json", "ETag": etag})

    def break_down(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{nobody.getsockname()[1]}/things"
