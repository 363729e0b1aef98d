"""Moments and spans of time, as other systems and people write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def moment_of(value: Any) -> datetime | None:
    """Return the aware moment that a value means, or None. Without a zone it is UTC; a number is seconds."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds_of(value: Any) -> float:
    """Return the seconds of `90`, `90s`, `15m`, `1h 30m`, `1d`. Raises ValueError."""
    text = str(value).strip().lower()
    parts = _SPAN.findall(text)
    if parts and not _SPAN.sub("", text).strip():
        return sum(float(count) * _UNITS[unit] for count, unit in parts)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10**9:
        raise ValueError(f"{value!r} is no span of time; write seconds, or text such as 90s, 15m, 2h, 1d")
    return seconds
