"""Which headers of a delivery may be stored and shown."""

from __future__ import annotations

from collections.abc import Mapping

REDACTED = "[redacted]"

_SECRET_NAMES = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
_SECRET_WORDS = ("signature", "token", "secret", "password", "hmac", "api-key")
_PUBLIC_WORD = "idempotency"  # e.g. I-Twilio-Idempotency-Token: an id, not a secret


def redacted(headers: Mapping[str, str], secret_headers: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the headers (lower-case names) with the values of secret ones replaced."""
    return {
        name: REDACTED if name in secret_headers or is_secret_header(name) else value
        for name, value in headers.items()
    }


def is_secret_header(name: str) -> bool:
    """Say whether a lower-case name speaks of a secret."""
    if name in _SECRET_NAMES:
        return True
    return any(word in name for word in _SECRET_WORDS) and _PUBLIC_WORD not in name
