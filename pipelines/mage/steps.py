"""One transformer action as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import TerminalError


class ActionRefused(TerminalError):
    """A transformer action that cannot be done; the message says what to write in its place."""


@dataclass(frozen=True)
class Step:
    """What is done, to which columns, and what the new columns are called."""

    type: str
    columns: tuple[str, ...] = ()
    code: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, str]]:
        """Return each column with the name of the new column that is made of it."""
        if len(self.outputs) < len(self.columns):
            raise ActionRefused(
                f"the action {self.type!r} has {len(self.columns)} arguments, {len(self.outputs)} outputs; "
                "name one output for each"
            )
        return list(zip(self.columns, self.outputs, strict=False))

    def first_pair(self) -> tuple[str, str] | None:
        """Return the first column and the name of the new one; None when no column is named."""
        if not self.columns:
            return None
        return self.columns[0], self.outputs[0] if self.outputs else f"{self.columns[0]}_{self.type}"

    def grouped_by(self) -> list[str]:
        return list(self.options.get("groupby_columns") or ())
