"""The `basic` scheme: a name and a password in `Authorization: Basic`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified, header_of
from service.intake.verify.options import read_needed
from service.intake.verify.secrets import Key, active_keys, read_secrets

_HEADER = "authorization"
_BASIC = "basic "


@dataclass(frozen=True, slots=True)
class Basic(Scheme):
    """Compares digests of `name:password`, so that the time it takes shows neither length nor place."""

    digests: tuple[Key, ...]

    secret_headers = frozenset({_HEADER})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `username`, and `secret(s)`: its passwords."""
        username = read_needed(options, "username", "the name that the sender gives")
        if ":" in username:
            raise SchemeError("`username` must not hold a colon: it ends the name")
        return cls(
            tuple(
                Key(_digest(f"{username}:{secret.text}".encode()), secret.not_after)
                for secret in read_secrets(options)
            )
        )

    def verify(self, signed: Signed, now: datetime) -> None:
        value = signed.headers.get(_HEADER, "")
        given = _decoded(value[len(_BASIC) :]) if value[: len(_BASIC)].lower() == _BASIC else None
        digest = _digest(given or b"")
        matches = [hmac.compare_digest(digest, one) for one in active_keys(self.digests, now)]
        header_of(signed, _HEADER)
        if given is None:
            raise Unverified(Fault.MALFORMED_HEADER)
        if not any(matches):
            raise Unverified(Fault.WRONG_PASSWORD)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def _digest(name_and_password: bytes) -> bytes:
    return hashlib.sha256(name_and_password).digest()
