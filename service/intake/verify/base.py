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
    MALFORMED_TOKEN = "the token cannot be read"  # noqa: S105 - a sentence
    MALFORMED_TIMESTAMP = "the timestamp is not a time"
    STALE_TIMESTAMP = "the timestamp is too far from now"
    WRONG_SIGNATURE = "no signature matches"
    WRONG_TOKEN = "the token does not match"  # noqa: S105 - a sentence
    WRONG_PASSWORD = "the name or the password does not match"  # noqa: S105 - a sentence
    WRONG_ISSUER = "the token is of another issuer"
    WRONG_AUDIENCE = "the token is for another audience"
    WRONG_EMAIL = "the token is of another account, or of one whose address is not verified"
    STALE_TOKEN = "the token has expired, or is not valid yet"  # noqa: S105 - a sentence
    UNSIGNED_BODY = "the signature does not cover the body"
    EXPIRED_SECRETS = "every secret is past its not_after"
    FOREIGN_ADDRESS = "the sender's address is not allowed"


class Unverified(Exception):
    """The delivery is not authentic. The only exception a scheme raises for what a sender can send."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Undecided(Exception):
    """Nobody can tell now whether the delivery is authentic: what the scheme has to ask does not answer.

    It is not the sender's fault, and it should send again later. The text is for the operator.
    """


class SchemeError(ValueError):
    """The `verify` of a trigger cannot work. Its text is one sentence, without secrets."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A delivery as it came over the wire. `headers` has lower-case names and unredacted values."""

    body: bytes
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(default="", repr=False)  # its query may hold a token
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    address: str | None = None


class Scheme(Protocol):
    """Decides whether a delivery is authentic."""

    @property
    def is_open(self) -> bool:
        """True where senders prove nothing: what they say of other roads is not believed."""
        return False

    @property
    def secret_headers(self) -> frozenset[str]:
        """Lower-case names of headers that carry a secret, never to be stored."""

    def verify(self, signed: Signed, now: datetime) -> None:
        """Return when `signed` is authentic; raise Unverified, or Undecided, and nothing else, when not."""

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        """Return the sender's own id of the delivery, None where the scheme has none."""
        return None

    def challenge(self, body: bytes) -> str | None:
        """Return what a provider that only tries the address wants to hear; None for a delivery."""
        return None


def header_of(signed: Signed, name: str) -> str:
    """Return the header's value; raise Unverified when it is absent or empty."""
    value = signed.headers.get(name)
    if not value:
        raise Unverified(Fault.MISSING_HEADER)
    return value
