"""When an event is sent again whose receiver did not take it: the schedule of Standard Webhooks."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR = 60, 3600
# Before the first try, the second, and so on: about three days in all.
DELAYS = (
    0,
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
JITTER = 0.1
LONGEST = timedelta(hours=24)


def delay_after(attempt: int, wish: timedelta | None = None) -> timedelta | None:
    """Return how long to wait after the failed `attempt` (1 is the first); None when no try is left.

    `wish` is what the receiver asked for; it may lengthen the wait.
    """
    if attempt >= len(DELAYS):
        return None
    spread = 1 + random.uniform(0, JITTER)  # noqa: S311 - spreads load, guards nothing
    return max(timedelta(seconds=DELAYS[attempt] * spread), min(wish or timedelta(), LONGEST))


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Read a `Retry-After`: seconds, or a date of HTTP. None where it says nothing that can be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return timedelta(seconds=int(text))
    try:
        time = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(timedelta(), (time if time.tzinfo else time.replace(tzinfo=UTC)) - now)
