"""What every verification scheme sees, and the closed set of its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class Fault(StrEnum):
    """Why a delivery is not authentic. Kept with the refused delivery; the sender is never told."""

    MISSING_HEADER = "a header that the scheme needs is missing"
    MALFORMED_HEADER = "a header of the scheme cannot be read"
    MALFORMED_TIMESTAMP = "the timestamp is not a time"
    STALE_TIMESTAMP = "the timestamp is too far from now"
    WRONG_SIGNATURE = "no signature matches"
    WRONG_TOKEN = "the token does not match"  # noqa: S105 - a sentence
    EXPIRED_SECRETS = "every secret is past its not_after"
    FOREIGN_ADDRESS = "the sender's address is not allowed"


class Unverified(Exception):
    """The delivery is not authentic. The only exception a scheme raises for what a sender can send."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class SchemeError(ValueError):
    """The `verify` of a trigger cannot work. Its text is one sentence, without secrets."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A delivery as it came over the wire. `headers` has lower-case names and unredacted values."""

    body: bytes
    headers: Mapping[str, str]
    url: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None


class Scheme(Protocol):
    """Decides whether a delivery is authentic."""

    @property
    def secret_headers(self) -> frozenset[str]:
        """Lower-case names of headers that carry a secret, never to be stored."""

    def verify(self, signed: Signed, now: datetime) -> None:
        """Return when `signed` is authentic; raise Unverified, and nothing else, when it is not."""

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        """Return the sender's own id of the delivery, None where the scheme has none."""


def header_of(signed: Signed, name: str) -> str:
    """Return the header's value; raise Unverified when it is absent or empty."""
    value = signed.headers.get(name)
    if not value:
        raise Unverified(Fault.MISSING_HEADER)
    return value
