"""How long to leave alone what has failed: longer and longer, up to a bound."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from service.clock import Clock

logger = structlog.get_logger(__name__)

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Rest:
    """A job that failed is not called before `until`."""

    failures: int
    until: datetime


class BackingOff:
    """Counts the failures of jobs in a row, by their names. Each name is for one thread at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rests: dict[str, _Rest] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._rests

    def is_resting(self, name: str) -> bool:
        rest = self._rests.get(name)
        return rest is not None and self._clock() < rest.until

    def fail(self, name: str, error: Exception) -> timedelta:
        """Count a failure; return after which delay to try again."""
        before = self._rests.get(name)
        failures = before.failures + 1 if before else 1
        delay: timedelta = min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY)
        self._rests[name] = _Rest(failures, self._clock() + delay)
        logger.warning("tick failed", job=name, error=str(error), again_in_seconds=delay.total_seconds())
        return delay

    def forget(self, name: str) -> None:
        self._rests.pop(name, None)
