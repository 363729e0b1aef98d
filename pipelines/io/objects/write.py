"""One write of an object, which says itself by which write it was made."""

from __future__ import annotations

from pipelines.io.effects import Write
from pipelines.io.objects.store import EFFECT, ROWS, Stored


class ObjectWrite(Write):
    """One write, by a name that is the same for each try of it."""

    def metadata(self, rows: int) -> dict[str, str]:
        """Return what an object of this write says of it."""
        return {EFFECT: self.id, ROWS: str(rows)}

    def made(self, seen: Stored | None) -> bool:
        """Tell whether an object is of this write, by an earlier try or by one whose answer was lost."""
        return seen is not None and seen.metadata.get(EFFECT) == self.id
