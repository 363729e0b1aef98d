"""The moment a sender claims to have signed at, read strictly, and its distance from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from service.intake.verify.base import Fault, Unverified

# Python's int() also takes spaces, underscores, signs and other scripts' digits; what is signed has one form.
_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,15}(?:Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


class TimestampUnit(StrEnum):
    SECONDS = "s"
    MILLISECONDS = "ms"
    ISO = "iso"


def check_timestamp(text: str, unit: TimestampUnit, *, now: datetime, tolerance: timedelta) -> None:
    """Raise Unverified unless `text` is a time within `tolerance` of now, on both sides."""
    if abs(now - _read(text, unit)) > tolerance:
        raise Unverified(Fault.STALE_TIMESTAMP)


def _read(text: str, unit: TimestampUnit) -> datetime:
    pattern = _ISO if unit is TimestampUnit.ISO else _DIGITS
    if not pattern.fullmatch(text):
        raise Unverified(Fault.MALFORMED_TIMESTAMP)
    try:
        if unit is TimestampUnit.ISO:
            return datetime.fromisoformat(text)
        return datetime.fromtimestamp(int(text) / (1000 if unit is TimestampUnit.MILLISECONDS else 1), UTC)
    except (ValueError, OverflowError, OSError):
        raise Unverified(Fault.MALFORMED_TIMESTAMP) from None
