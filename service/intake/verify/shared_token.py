"""The `token` scheme: a secret that the sender repeats, as a bearer, in another header, or in the URL."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified
from service.intake.verify.secrets import Key, active_keys, read_secrets

_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class SharedToken(Scheme):
    """Compares digests, so that the time it takes shows neither length nor place of a difference."""

    digests: tuple[Key, ...]
    header: str = "authorization"
    query: str | None = None  # name of a query parameter that may carry the token instead

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `secret(s)`, and `header` or `query`."""
        header, query = options.get("header", "authorization"), options.get("query")
        if not isinstance(header, str) or not (query is None or isinstance(query, str)):
            raise SchemeError("`header` and `query` must be names")
        digests = tuple(Key(_digest(secret.text), secret.not_after) for secret in read_secrets(options))
        return cls(digests, header.lower(), query)

    @property
    def secret_headers(self) -> frozenset[str]:
        return frozenset({self.header})

    def verify(self, signed: Signed, now: datetime) -> None:
        given = self._token(signed)
        digest = _digest(given or "")
        expected = active_keys(self.digests, now)
        matches = [hmac.compare_digest(digest, candidate) for candidate in expected]
        if given is None:
            raise Unverified(Fault.MISSING_HEADER)
        if not any(matches):
            raise Unverified(Fault.WRONG_TOKEN)

    def _token(self, signed: Signed) -> str | None:
        value = signed.headers.get(self.header)
        if value is None and self.query is not None:
            return signed.query.get(self.query)
        return value if self.header != "authorization" else bearer_of(value)


def bearer_of(authorization: str | None) -> str | None:
    """Return the token of an `Authorization: Bearer ...`."""
    value = authorization or ""
    return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else None


def _digest(text: str) -> bytes:
    # A header arrives as latin-1; whatever it holds, a digest of it can be taken.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
