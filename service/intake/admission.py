"""How much a door lets in: deliveries per time, and runs waiting in its queue."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class RateError(ValueError):
    """The text of a `rate` means nothing. Its text is one sentence."""


def read_rate(text: str) -> RateLimitItem:
    """Read `100/minute` or `10 per second`."""
    try:
        return parse(text)
    except ValueError:
        raise RateError(f"`rate` must be like 100/minute, not {text!r}") from None


@dataclass(frozen=True, slots=True)
class Quota:
    """What one door allows. None is no limit."""

    rate: RateLimitItem | None = None
    queued_runs: int | None = None


class Admission:
    """Counts what came through this process's doors. The rate is held per web process."""

    @cached_property
    def _limiter(self) -> MovingWindowRateLimiter:
        # The storage starts a timer: it is made at first use, after a fork, and only where there is a rate.
        return MovingWindowRateLimiter(MemoryStorage())

    def over_rate(self, quota: Quota, door: str) -> int | None:
        """Count one delivery; return the seconds to wait when it is over the door's rate, else None."""
        if quota.rate is None or self._limiter.hit(quota.rate, door):
            return None
        window = self._limiter.get_window_stats(quota.rate, door)
        return max(1, math.ceil(window.reset_time - time.time()))
