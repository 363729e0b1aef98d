"""Where a sensor stands in the store: its cursor, and during a first sight what becomes of what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sensors.base import Cursor, ExistingRule

USUAL = str(ExistingRule.IGNORE)


@dataclass(frozen=True, slots=True)
class Standing:
    """The cursor; during a first sight also the `existing` that it began with.

    That holds until a tick has come to its end, whatever the trigger's file says by then. It may have been
    chosen when the cursor was set anew.
    """

    cursor: Cursor = None
    existing: Any = None

    @classmethod
    def begun(cls, stored: Any, existing: Any) -> Standing:
        """Return where a tick begins. `existing` is the trigger's own, for a first sight."""
        return cls(None, existing or USUAL) if stored is None else cls.of(stored)

    @classmethod
    def of(cls, stored: Any) -> Standing:
        if isinstance(stored, dict):
            return cls(stored["cursor"], stored["existing"])
        return cls(stored)

    def stored(self) -> Any:
        if self.existing is None:
            return self.cursor
        return {"cursor": self.cursor, "existing": self.existing}
