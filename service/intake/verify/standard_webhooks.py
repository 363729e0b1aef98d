"""Standard Webhooks 1.0.0: `v1` (HMAC-SHA256) and `v1a` (ed25519) over `{id}.{timestamp}.{body}`."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified, header_of
from service.intake.verify.options import read_tolerance
from service.intake.verify.secrets import Key, Secret, active_keys, read_secrets
from service.intake.verify.timestamps import TimestampUnit, check_timestamp

_ID_HEADER = "webhook-id"
_TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
_PUBLIC_PREFIX = "whpk_"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of such secrets
_MAX_CANDIDATES = 16  # signatures looked at in one header: rotation needs two or three
_ED25519_BYTES = 32

# A full stop in the id would let one signed text be split into id, time and body in two ways.
_ID = re.compile(r"[!-\-/-~]{1,256}", re.ASCII)

VerifyEd25519 = Callable[[bytes, bytes], bool]  # (signature, content)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of the sender's that can check, not sign."""

    verify: VerifyEd25519
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class StandardWebhooks(Scheme):
    """Accepts when any offered signature fits any active secret."""

    secrets: tuple[Key, ...]
    public_keys: tuple[PublicKey, ...]
    tolerance: timedelta

    secret_headers = frozenset({SIGNATURE_HEADER})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `secret(s)` (`whsec_…`, or `whpk_…` for `v1a`) and `tolerance` in seconds."""
        secrets = read_secrets(options)
        symmetric = [secret for secret in secrets if not secret.text.startswith(_PUBLIC_PREFIX)]
        public = [secret for secret in secrets if secret.text.startswith(_PUBLIC_PREFIX)]
        return cls(
            tuple(Key(_symmetric(secret), secret.not_after) for secret in symmetric),
            tuple(PublicKey(_public(secret), secret.not_after) for secret in public),
            read_tolerance(options),
        )

    def verify(self, signed: Signed, now: datetime) -> None:
        # Signatures are computed before anything is refused, so that each refusal costs the same.
        message_id = signed.headers.get(_ID_HEADER, "")
        timestamp = signed.headers.get(_TIMESTAMP_HEADER, "")
        content = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + signed.body
        expected = self._expected(content, now)
        offered = header_of(signed, SIGNATURE_HEADER)
        _check_id(header_of(signed, _ID_HEADER))
        header_of(signed, _TIMESTAMP_HEADER)
        check_timestamp(timestamp, TimestampUnit.SECONDS, now=now, tolerance=self.tolerance)
        if not self._matches(offered, expected, content, now):
            raise Unverified(Fault.WRONG_SIGNATURE)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        return headers.get(_ID_HEADER)

    def _expected(self, content: bytes, now: datetime) -> list[bytes]:
        """Return the `v1` signatures of the active secrets, as the header would spell them."""
        if not self.secrets:
            return []
        if self.public_keys and not any(_is_active(key, now) for key in self.secrets):
            return []  # only the public keys count any more
        keys = active_keys(self.secrets, now)
        return [base64.b64encode(hmac.digest(key, content, "sha256")) for key in keys]

    def _matches(self, offered: str, expected: Sequence[bytes], content: bytes, now: datetime) -> bool:
        public = [key.verify for key in self.public_keys if _is_active(key, now)]
        matched = False
        for candidate in offered.split(" ", _MAX_CANDIDATES)[:_MAX_CANDIDATES]:
            version, _, signature = candidate.partition(",")
            text = signature.encode("utf-8", "surrogatepass")
            if version == "v1":
                matched |= any([hmac.compare_digest(text, one) for one in expected])
            elif version == "v1a" and public:
                matched |= _fits_any(text, public, content)
        return matched


def _is_active(key: Key | PublicKey, now: datetime) -> bool:
    return key.not_after is None or now <= key.not_after


def _check_id(message_id: str) -> None:
    if not _ID.fullmatch(message_id):
        raise Unverified(Fault.MALFORMED_HEADER)


def _fits_any(text: bytes, public: Sequence[VerifyEd25519], content: bytes) -> bool:
    try:
        signature = base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return any([verify(signature, content) for verify in public])


def _symmetric(secret: Secret) -> bytes:
    return _decoded(secret.text.removeprefix(SECRET_PREFIX))


def _public(secret: Secret) -> VerifyEd25519:
    raw = _decoded(secret.text.removeprefix(_PUBLIC_PREFIX))
    if len(raw) != _ED25519_BYTES:
        raise SchemeError(f"a `whpk_` key must hold {_ED25519_BYTES} bytes, not {len(raw)}")
    key = Ed25519PublicKey.from_public_bytes(raw)

    def verify(signature: bytes, content: bytes) -> bool:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    return verify


def _decoded(text: str) -> bytes:
    """Decode base64, with or without its padding."""
    stripped = text.strip().rstrip("=")
    try:
        decoded = base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SchemeError("a secret is not base64; copy it whole, with its prefix") from None
    if not decoded:
        raise SchemeError("a secret is empty")
    return decoded
