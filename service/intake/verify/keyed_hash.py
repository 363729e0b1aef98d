"""The generic `hmac` scheme: whatever a provider signs by a keyed hash, described by options."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from service.intake.verify.addresses import public_address
from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified, header_of
from service.intake.verify.options import (
    read_choice,
    read_header,
    read_headers,
    read_needed,
    read_text,
    read_tolerance,
    read_url,
)
from service.intake.verify.secrets import Key, Secret, active_keys, read_secrets
from service.intake.verify.signed_content import SignedContent, header_text
from service.intake.verify.timestamps import TimestampUnit, check_timestamp

_MAX_ITEMS = 16  # looked at in one header: rotation needs two or three
_ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")

# How each encoding spells a digest. Padding is left out on both sides: senders disagree about it.
_ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "hex": lambda digest: digest.hex().encode(),
    "base64": lambda digest: base64.b64encode(digest).rstrip(b"="),
    "base64url": lambda digest: base64.urlsafe_b64encode(digest).rstrip(b"="),
}


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Where the sender says when it signed: a header, or one item of it, as in `t=1700000000,v1=...`."""

    header: str
    unit: TimestampUnit
    tolerance: timedelta
    prefix: str = ""  # of the item
    separator: str | None = None

    def text(self, signed: Signed) -> str:
        """Return the time as it was written, nothing when it is not there or there twice."""
        value = signed.headers.get(self.header, "")
        if not self.prefix:
            return value
        items = [item.removeprefix(self.prefix) for item in _items(value, self.separator, self.prefix)]
        return items[0] if len(items) == 1 else ""


@dataclass(frozen=True, slots=True)
class KeyedHash(Scheme):
    """Accepts when any offered signature fits any active secret."""

    keys: tuple[Key, ...]
    header: str
    content: SignedContent
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    separator: str | None = None  # splits several signatures in one header
    timestamp: Timestamp | None = None
    id_headers: tuple[str, ...] = ()  # together they name a delivery
    id_path: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from the keys of the trigger's `verify`; `docs/webhooks.md` lists them."""
        header = read_needed(options, "header", "the name of the header with the signature").lower()
        separator = read_text(options, "separator") or None
        timestamp = _timestamp(options, header, separator)
        id_headers = read_headers(options, "id_header")
        encoding = read_text(options, "secret_encoding") or "raw"
        return cls(
            keys=tuple(Key(_decoded(secret, encoding), secret.not_after) for secret in read_secrets(options)),
            header=header,
            content=_content(options, timestamp, id_headers),
            algorithm=read_choice(options, "algorithm", _ALGORITHMS, "sha256"),
            encoding=read_choice(options, "encoding", tuple(_ENCODINGS), "hex"),
            prefix=read_text(options, "prefix") or "",
            separator=separator,
            timestamp=timestamp,
            id_headers=id_headers,
            id_path=tuple((read_text(options, "id_path") or "").split(".")) if options.get("id_path") else (),
        )

    @property
    def secret_headers(self) -> frozenset[str]:
        return frozenset({self.header})

    def verify(self, signed: Signed, now: datetime) -> None:
        # Signatures are computed before anything is refused, so that each refusal costs the same.
        content = self.content.of(signed)
        expected = [
            _ENCODINGS[self.encoding](hmac.digest(key, content, self.algorithm))
            for key in active_keys(self.keys, now)
        ]
        matches = self._matches(header_of(signed, self.header), expected)
        if self.timestamp:
            header_of(signed, self.timestamp.header)
            text = self.timestamp.text(signed)
            check_timestamp(text, self.timestamp.unit, now=now, tolerance=self.timestamp.tolerance)
        if not matches:
            raise Unverified(Fault.WRONG_SIGNATURE)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        if self.id_headers:
            values = [headers.get(name) for name in self.id_headers]
            return ":".join(value for value in values if value) if all(values) else None
        for name in self.id_path:
            data = data.get(name) if isinstance(data, Mapping) else None
        return str(data) if self.id_path and isinstance(data, str | int) and data != "" else None

    def _matches(self, offered: str, expected: list[bytes]) -> bool:
        matched = False
        for candidate in self._candidates(offered):
            matched |= any([hmac.compare_digest(candidate, one) for one in expected])
        return matched

    def _candidates(self, offered: str) -> list[bytes]:
        items = _items(offered, self.separator, self.prefix)
        return [self._spelled(item[len(self.prefix) :]) for item in items]

    def _spelled(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogatepass")
        return raw.lower() if self.encoding == "hex" else raw.rstrip(b"=")


def _items(value: str, separator: str | None, prefix: str) -> list[str]:
    """Return the items of a header that begin with the prefix."""
    several = value.split(separator, _MAX_ITEMS)[:_MAX_ITEMS] if separator else [value]
    return [item for item in (one.strip() for one in several) if item.startswith(prefix)]


def _timestamp(options: Mapping[str, Any], header: str, separator: str | None) -> Timestamp | None:
    unit = TimestampUnit(read_choice(options, "timestamp_unit", tuple(TimestampUnit), TimestampUnit.SECONDS))
    prefix = read_text(options, "timestamp_prefix") or ""
    if prefix and separator is None:
        raise SchemeError(
            "`timestamp_prefix` names one of several items; `separator` must say what parts them"
        )
    found = read_header(options, "timestamp_header") or (header if prefix else None)
    return Timestamp(found, unit, read_tolerance(options), prefix, separator) if found else None


def _content(
    options: Mapping[str, Any], timestamp: Timestamp | None, id_headers: Sequence[str]
) -> SignedContent:
    named = {
        "ts": timestamp.text if timestamp else None,
        "id": header_text(id_headers[0]) if id_headers else None,
        "url": public_address(read_url(options)),
    }
    content = SignedContent.compile(read_text(options, "content") or "{body}", named)
    if timestamp and not content.placeholders & {"ts", f"header:{timestamp.header}"}:
        raise SchemeError("the timestamp is not part of `content`, so that anybody could change it; add {ts}")
    return content


def _decoded(secret: Secret, encoding: str) -> bytes:
    try:
        match encoding:
            case "raw":
                return secret.text.encode()
            case "hex":
                decoded = bytes.fromhex(secret.text)
            case "base64":
                text = secret.text.rstrip("=")
                decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            case _:
                raise SchemeError("`secret_encoding` must be one of raw, base64, hex")
    except (binascii.Error, ValueError) as error:
        if isinstance(error, SchemeError):
            raise
        raise SchemeError(f"a secret is not {encoding}") from None
    if not decoded:
        raise SchemeError("a secret is empty")
    return decoded
