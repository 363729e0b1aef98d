"""Deliveries that were refused: why, and what the sender may know of it."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Every way a door says no."""

    UNKNOWN = "no enabled webhook has this address"
    UNVERIFIED = "not authentic"
    TOO_LARGE = "the body is too large"
    OVER_RATE = "over the rate of the webhook"
    QUEUE_FULL = "too many runs of the webhook wait already"
    BUSY = "the service cannot store it now"
    BROKEN = "the webhook cannot work"


class Refused(Exception):
    """The delivery is not taken. `reason` is for the operator; the sender gets only the cause."""

    def __init__(self, cause: Cause, reason: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(reason or str(cause))
        self.cause = cause
        self.reason = reason or str(cause)
        self.retry_after = retry_after
