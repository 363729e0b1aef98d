"""A function of a project that reports the things of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.sensors.rig import Rig

CODE = """
import json
from pathlib import Path

def poll(cursor, file):
    things = json.loads(Path(file).read_text())
    for name, thing in things.items():
        yield {
            "key": f"{name}:{thing['content']}:{thing['at']}",
            "subject": name,
            "time": thing["at"],
            "data": thing,
        }
    return len(things)
"""


class PythonRig(Rig):
    def __init__(self, scratch: Path, server: Any = None) -> None:
        super().__init__(scratch, server)
        (scratch / "sensors").mkdir()
        (scratch / "sensors" / "mine.py").write_text(CODE)
        self._file = scratch / "things.json"
        self._things: dict[str, dict[str, str]] = {}
        self.settle()

    @property
    def options(self) -> Mapping[str, Any]:
        return {"path": "sensors/mine.py", "file": str(self._file)}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"path": "", "function": 7}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        self._things[name] = {"content": content, "at": (stamp or datetime.now(UTC)).isoformat()}

    def delete(self, name: str) -> None:
        del self._things[name]

    def settle(self) -> None:
        self._file.write_text(json.dumps(self._things))

    def break_down(self) -> None:
        (self.scratch / "sensors" / "mine.py").write_text("raise ConnectionError('it is away')")
