"""Google's signed identity tokens, as Pub/Sub push, Eventarc, Cloud Tasks and Cloud Scheduler send them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified, header_of
from service.intake.verify.certificates import Certificates
from service.intake.verify.options import read_text, read_texts, read_tolerance
from service.intake.verify.shared_token import bearer_of

CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"

_HEADER = "authorization"
_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
_SKEW = timedelta(seconds=30)  # between Google's clock and ours
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_MAX_CHARACTERS = 8192
_LATEST = 253_402_300_800  # seconds to the year 10000


@dataclass(frozen=True, slots=True)
class Token:
    """A token, read but not believed yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    content: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class GoogleOidc(Scheme):
    """Accepts a token that Google signed for one of the audiences and one of the accounts, and no other."""

    audiences: tuple[str, ...]
    emails: tuple[str, ...]
    certificates: Certificates
    skew: timedelta = _SKEW

    secret_headers = frozenset({_HEADER})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `audience` and `email`, `tolerance` in seconds, `certificates`."""
        audiences, emails = read_texts(options, "audience"), read_texts(options, "email")
        if not all(audiences) or not audiences:
            raise SchemeError("it needs `audience`, as the sender has it: often the address it posts to")
        if not all(emails) or not emails:
            # Any account of Google's can get a token for any audience.
            raise SchemeError("it needs `email`, the service account that sends")
        certificates = Certificates(read_text(options, "certificates") or CERTIFICATES)
        return cls(audiences, emails, certificates, read_tolerance(options, _SKEW))

    def verify(self, signed: Signed, now: datetime) -> None:
        token = _read(bearer_of(header_of(signed, _HEADER)) or "")
        # What the token says comes first: it costs nothing, and who cannot say it makes us fetch nothing.
        self._check(token.claims, now)
        key = self.certificates.key(token.header["kid"], now)
        if key is None:
            raise Unverified(Fault.WRONG_SIGNATURE)
        try:
            key.verify(token.signature, token.content, PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Unverified(Fault.WRONG_SIGNATURE) from None

    def _check(self, claims: Mapping[str, Any], now: datetime) -> None:
        if claims.get("iss") not in _ISSUERS:
            raise Unverified(Fault.WRONG_ISSUER)
        if claims.get("aud") not in self.audiences:
            raise Unverified(Fault.WRONG_AUDIENCE)
        if claims.get("email") not in self.emails or claims.get("email_verified") is not True:
            raise Unverified(Fault.WRONG_EMAIL)
        issued, expires = _seconds(claims.get("iat")), _seconds(claims.get("exp"))
        skew = self.skew.total_seconds()
        if not issued - skew <= now.timestamp() <= expires + skew:
            raise Unverified(Fault.STALE_TOKEN)


def _read(text: str) -> Token:
    match = _TOKEN.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise Unverified(Fault.MALFORMED_TOKEN)
    try:
        header, claims = json.loads(_decoded(match[1])), json.loads(_decoded(match[2]))
        signature = _decoded(match[3])
    except (ValueError, RecursionError):
        raise Unverified(Fault.MALFORMED_TOKEN) from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unverified(Fault.MALFORMED_TOKEN)
    # The sender does not choose how it is checked: one algorithm, and no extension that must be understood.
    if header.get("alg") != "RS256" or "crit" in header or not isinstance(header.get("kid"), str):
        raise Unverified(Fault.MALFORMED_TOKEN)
    return Token(header, claims, f"{match[1]}.{match[2]}".encode(), signature)


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LATEST:
        raise Unverified(Fault.MALFORMED_TOKEN)
    return value
