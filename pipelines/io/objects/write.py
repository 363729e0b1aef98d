"""One write of a connector, by a name that is the same for each try of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import uuid4

from pipelines.io.effects import Effect
from pipelines.io.objects.store import EFFECT, ROWS, Stored


@dataclass(frozen=True, slots=True)
class Write:
    """One write: of a block, or, without `effect`, of anybody, once."""

    id: str
    effect: Effect | None

    @classmethod
    def next(cls, target: str) -> Write:
        effect = Effect.next(target)
        return cls(uuid4().hex if effect is None else effect.id, effect)

    @property
    def token(self) -> str:
        """The id as a part of names."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:16]

    def metadata(self, rows: int) -> dict[str, str]:
        """Return what an object of this write says of it."""
        return {EFFECT: self.id, ROWS: str(rows)}

    def made(self, seen: Stored | None) -> bool:
        """Tell whether an object is of this write, by an earlier try or by one whose answer was lost."""
        return seen is not None and seen.metadata.get(EFFECT) == self.id

    def crash(self, point: str) -> None:
        if self.effect is not None:
            self.effect.crash(point)

    def found(self, rows: int) -> None:
        """Say that an earlier try has written this already."""
        if self.effect is not None:
            self.effect.found(rows)

    def wrote(self, rows: int) -> None:
        if self.effect is not None:
            self.effect.context.effects.wrote(rows)
