"""What a tick of a sensor comes to, counted as its pages are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sensors.base import Cursor
from service.store.sensors import SensorTick
from service.store.values import Outcome, Recorded


@dataclass(slots=True)
class Tally:
    """What one tick has found so far, and where it stands."""

    cursor: Cursor
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    duplicate: int = 0
    failed: int = 0
    capped: int = 0
    reconciled: int = 0
    ended: str | None = None  # what cut the tick short
    has_moved: bool = False

    @property
    def new(self) -> int:
        return self.outcomes.total()

    def count(self, answers: Sequence[Recorded | Exception]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                self.failed += 1
            elif answer.duplicate:
                self.duplicate += 1
            else:
                self.outcomes[answer.outcome] += 1

    def move(self, cursor: Cursor) -> None:
        self.has_moved |= cursor != self.cursor
        self.cursor = cursor

    def result(self, error: str | None) -> SensorTick:
        return SensorTick(
            seen=self.new + self.duplicate + self.failed + self.capped,
            new=self.new,
            duplicate=self.duplicate,
            filtered=self.outcomes[Outcome.FILTERED],
            capped=self.capped,
            reconciled=self.reconciled,
            error=error,
            reason=None if error else self._reason(),
        )

    def _reason(self) -> str | None:
        """Say why nothing ran, or why not all; None when all is as it should be."""
        facts = [*self._why_nothing_ran()]
        if self.capped:
            facts.append(f"{self.capped} more are left for the next tick (max_events)")
        if self.ended:
            facts.append(self.ended)
        return "; ".join(facts) or None

    def _why_nothing_ran(self) -> Sequence[str]:
        if self.outcomes[Outcome.RAN]:
            return ()
        if self.new:
            return (", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())),)
        if self.duplicate:
            return (f"all {self.duplicate} are known",)
        return () if self.capped or self.ended else ("nothing has changed",)
