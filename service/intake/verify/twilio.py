"""Twilio: HMAC-SHA1 over the address, with the parameters of a form or a digest of the body in its query."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl

from service.intake.verify.addresses import public_address
from service.intake.verify.base import Fault, Scheme, Signed, Unverified, header_of
from service.intake.verify.options import read_url
from service.intake.verify.secrets import Key, active_keys, read_secrets
from service.intake.verify.signed_content import Text, wire_bytes

_SIGNATURE_HEADER = "x-twilio-signature"
_TOKEN_HEADER = "i-twilio-idempotency-token"  # noqa: S105 - the name of a header
_FORM_TYPE = "application/x-www-form-urlencoded"
_DIGEST_PARAMETER = "bodySHA256"
_MAX_PARAMETERS = 1000
_URL = re.compile(r"(https?)://([^/?#:]*)(?::([0-9]*))?([/?#].*|)", re.DOTALL)
_PORTS = {"https": "443", "http": "80"}


@dataclass(frozen=True, slots=True)
class Twilio(Scheme):
    """Accepts a signature over the address with or without its port: Twilio's products differ."""

    keys: tuple[Key, ...]
    address: Text

    secret_headers = frozenset({_SIGNATURE_HEADER})

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `secret(s)`, the auth token of the account, and `url`, the address as Twilio has it."""
        keys = tuple(Key(secret.text.encode(), secret.not_after) for secret in read_secrets(options))
        return cls(keys, public_address(read_url(options)))

    def verify(self, signed: Signed, now: datetime) -> None:
        address = self.address(signed)
        is_form = _is_form(signed)
        parameters = _signed_form(signed.body) if is_form else b""
        contents = [wire_bytes(spelled) + (parameters or b"") for spelled in _spellings(address)]
        keys = active_keys(self.keys, now)
        expected = [
            base64.b64encode(hmac.digest(key, content, "sha1")) for key in keys for content in contents
        ]
        offered = header_of(signed, _SIGNATURE_HEADER).encode("utf-8", "surrogatepass")
        if not any([hmac.compare_digest(offered, one) for one in expected]):
            raise Unverified(Fault.WRONG_SIGNATURE)
        if parameters is None or not (is_form or _is_digest_in(address, signed.body)):
            raise Unverified(Fault.UNSIGNED_BODY)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        token = headers.get(_TOKEN_HEADER)
        if token or not isinstance(data, Mapping):
            return token
        message, status = data.get("MessageSid"), data.get("MessageStatus") or data.get("SmsStatus")
        return f"{message}:{status}" if isinstance(message, str) and isinstance(status, str) else None


def _is_form(signed: Signed) -> bool:
    return signed.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM_TYPE


def _signed_form(body: bytes) -> bytes | None:
    """Return names and values in order, as they are signed; None for a form that has more than these."""
    if not body:
        return b""
    try:
        # Strict: of a body that is no form nothing would be signed. Latin-1 keeps every byte what it is.
        pairs = parse_qsl(
            body.decode("latin-1"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding="latin-1",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        return None
    return "".join(name + value for name, value in sorted(set(pairs))).encode("latin-1")


def _is_digest_in(address: str, body: bytes) -> bool:
    """Say whether the query has the digest of the body; an empty body needs none."""
    given = parse_qs(address.partition("?")[2]).get(_DIGEST_PARAMETER, [])
    if not given and not body:
        return True
    digest = hashlib.sha256(body).hexdigest().encode()
    found = [hmac.compare_digest(one.lower().encode("utf-8", "surrogatepass"), digest) for one in given]
    return len(found) == 1 and found[0]


def _spellings(address: str) -> list[str]:
    """Return the address without and with its port."""
    match = _URL.fullmatch(address)
    if match is None:
        return [address]
    scheme, host, port, rest = match.groups()
    return [f"{scheme}://{host}{rest}", f"{scheme}://{host}:{port or _PORTS[scheme]}{rest}"]
