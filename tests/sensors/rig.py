"""What a sensor watches, as one suite over all sensors sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar


class Rig(ABC):
    """An outside system a test can change. `put` with an equal `stamp` twice makes two things of one time."""

    part: ClassVar[str | None] = None  # the fixture of the real part it stands on, handed in as `server`

    # It hands messages out: none is there at first sight, is overwritten or deleted; there is no cursor.
    is_stream: ClassVar[bool] = False
    put_so_far: int = 0  # kept by a stream, so that a tick listens until all of it has come

    def __init__(self, scratch: Path, server: Any = None) -> None:
        self.scratch = scratch
        self.server = server

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

    def settle(self) -> None:  # noqa: B027
        """Make what was put be there, where a rig gathers it: it is called before each tick."""

    @abstractmethod
    def break_down(self) -> None:
        """Make the system unreachable."""
