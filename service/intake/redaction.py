"""Which headers of a delivery may be stored and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

REDACTED = "[redacted]"

_SECRET_WORDS = re.compile(
    "authorization|cookie|signature|token|secret|passw|passphrase|hmac|jwt|credential|session|"
    "(?:api|auth|access|private|functions)-?key|x-auth(?![a-z])"
)
_PUBLIC_WORD = "idempotency"  # e.g. I-Twilio-Idempotency-Token: an id, not a secret


def redacted(headers: Mapping[str, str], secret_headers: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the headers (lower-case names) with the values of secret ones replaced."""
    return {
        name: REDACTED if name in secret_headers or is_secret_header(name) else value
        for name, value in headers.items()
    }


@lru_cache(maxsize=1024)  # senders use the same few names over and over
def is_secret_header(name: str) -> bool:
    """Say whether a lower-case name speaks of a secret."""
    return _SECRET_WORDS.search(name) is not None and _PUBLIC_WORD not in name
