"""Where a sensor stands in the store: its cursor, and what was chosen when that was set anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sensors.base import Cursor


@dataclass(frozen=True, slots=True)
class Standing:
    """The cursor; `existing` takes the place of the trigger's own until the next tick has come to its end."""

    cursor: Cursor = None
    existing: str | None = None

    @classmethod
    def of(cls, stored: Any) -> Standing:
        if isinstance(stored, dict):
            return cls(stored["cursor"], stored["existing"])
        return cls(stored)

    def stored(self) -> Any:
        if self.existing is None:
            return self.cursor
        return {"cursor": self.cursor, "existing": self.existing}
