"""Deliveries that were refused: why, and what the sender may know of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from service.intake.verify.base import Scheme, Signed, Undecided, Unverified

UNDECIDED_RETRY_SECONDS = 5


class Cause(StrEnum):
    """Every way a door says no."""

    UNKNOWN = "no enabled webhook has this address"
    UNVERIFIED = "not authentic"
    TOO_LARGE = "the body is too large"
    BROKEN_OFF = "the body did not come whole"
    OVER_RATE = "over the rate of the webhook"
    NO_MESSAGE_ID = "the Pub/Sub message has no id"
    QUEUE_FULL = "too many runs of the webhook wait already"
    UNDECIDED = "it cannot be verified now"
    NO_CLOUDEVENT = "not a CloudEvent that is read here"
    BUSY = "the service cannot store it now"
    BROKEN = "the webhook cannot work"


class Refused(Exception):
    """The delivery is not taken. `reason` is for the operator; the sender gets only the cause."""

    def __init__(self, cause: Cause, reason: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(reason or str(cause))
        self.cause = cause
        self.reason = reason or str(cause)
        self.retry_after = retry_after


def check_authentic(scheme: Scheme, signed: Signed, now: datetime) -> None:
    """Return when the delivery is authentic. Raises Refused when it is not, or when nobody can tell."""
    try:
        scheme.verify(signed, now)
    except Unverified as unverified:
        raise Refused(Cause.UNVERIFIED, str(unverified)) from None
    except Undecided as undecided:
        raise Refused(Cause.UNDECIDED, str(undecided), retry_after=UNDECIDED_RETRY_SECONDS) from undecided
