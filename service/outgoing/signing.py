"""Signs what is sent by Standard Webhooks: `v1` (HMAC-SHA256) with `whsec_`, `v1a` (ed25519) with `whsk_`."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SYMMETRIC_PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
_SEED_BYTES = 32  # a private key is written as its seed, alone or with the public key behind it


class SigningError(ValueError):
    """A secret cannot sign. One sentence, without the secret."""


def signed_headers(secrets: Sequence[str], message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove the body; `at` in unix seconds. Each secret adds a signature.

    Raises SigningError.
    """
    content = f"{message_id}.{at}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(_signature(secret.strip(), content) for secret in secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    if secret.startswith(PRIVATE_PREFIX):
        key = _decoded(secret.removeprefix(PRIVATE_PREFIX))
        if len(key) not in (_SEED_BYTES, 2 * _SEED_BYTES):
            raise SigningError(f"a `{PRIVATE_PREFIX}` key must hold 32 or 64 bytes, not {len(key)}")
        signature = Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES]).sign(content)
        return f"v1a,{base64.b64encode(signature).decode()}"
    if not secret.startswith(SYMMETRIC_PREFIX):
        raise SigningError(f"a secret must begin with {SYMMETRIC_PREFIX} or {PRIVATE_PREFIX}")
    digest = hmac.digest(_decoded(secret.removeprefix(SYMMETRIC_PREFIX)), content, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def _decoded(text: str) -> bytes:
    stripped = text.rstrip("=")
    try:
        key = base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SigningError("a secret is not base64; copy it whole, with its prefix")
    return key
