"""For each sensor, the outside system it watches, so that one suite can hold all of them to one contract."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


class Rig(ABC):
    """An outside system a test can change. `put` with an equal `stamp` twice makes two things of one time."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]: ...

    @property
    @abstractmethod
    def wrong_options(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        """Make the thing, or overwrite it; `stamp` is the time stamp it claims."""

    @abstractmethod
    def delete(self, name: str) -> None: ...

    @abstractmethod
    def break_down(self) -> None:
        """Make the system unreachable."""


class FilesRig(Rig):
    @property
    def options(self) -> Mapping[str, Any]:
        return {"path": str(self._folder()), "pattern": "**/*.csv"}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"pattern": "*.csv", "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        path = self._folder() / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if stamp is not None:
            os.utime(path, (stamp.timestamp(), stamp.timestamp()))

    def delete(self, name: str) -> None:
        (self._folder() / f"{name}.csv").unlink()

    def break_down(self) -> None:
        self._folder().rename(self.scratch / "elsewhere")

    def _folder(self) -> Path:
        folder = self.scratch / "inbox"
        if not (self.scratch / "elsewhere").exists():
            folder.mkdir(exist_ok=True)
        return folder


RIGS: Mapping[str, Callable[[Path], Rig]] = {"files": FilesRig}
