"""The generic `hmac` scheme: whatever a provider signs by a keyed hash, described by options."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from service.intake.verify.base import Fault, SchemeError, Signed, Unverified, header_of
from service.intake.verify.secrets import Key, Secret, active_keys, read_secrets
from service.intake.verify.signed_content import SignedContent
from service.intake.verify.standard_webhooks import tolerance_of
from service.intake.verify.timestamps import TimestampUnit, check_timestamp

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_CANDIDATES = 16
_ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")

# How each encoding spells a digest. Padding is left out on both sides: senders disagree about it.
_ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "hex": lambda digest: digest.hex().encode(),
    "base64": lambda digest: base64.b64encode(digest).rstrip(b"="),
    "base64url": lambda digest: base64.urlsafe_b64encode(digest).rstrip(b"="),
}


@dataclass(frozen=True, slots=True)
class Timestamp:
    header: str
    unit: TimestampUnit
    tolerance: timedelta


@dataclass(frozen=True, slots=True)
class KeyedHash:
    """Accepts when any offered signature fits any active secret."""

    keys: tuple[Key, ...]
    header: str
    content: SignedContent
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    separator: str | None = None  # splits several signatures in one header
    timestamp: Timestamp | None = None
    id_header: str | None = None
    id_path: tuple[str, ...] = ()
    required_headers: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from the keys of the trigger's `verify`; `docs/webhooks.md` lists them."""
        timestamp = _timestamp(options)
        id_header = _name(options, "id_header")
        content = SignedContent.compile(
            _text(options, "content") or "{body}", ts=timestamp.header if timestamp else None, id=id_header
        )
        if timestamp and timestamp.header not in content.headers:
            raise SchemeError(
                "`timestamp_header` is not part of `content`, so that anybody could change it; add {ts}"
            )
        header = _name(options, "header")
        if header is None:
            raise SchemeError("it needs `header`, the name of the header with the signature")
        encoding = _text(options, "secret_encoding") or "raw"
        return cls(
            keys=tuple(Key(_decoded(secret, encoding), secret.not_after) for secret in read_secrets(options)),
            header=header,
            content=content,
            algorithm=_one_of(options, "algorithm", _ALGORITHMS, "sha256"),
            encoding=_one_of(options, "encoding", tuple(_ENCODINGS), "hex"),
            prefix=_text(options, "prefix") or "",
            separator=_text(options, "separator") or None,
            timestamp=timestamp,
            id_header=id_header,
            id_path=tuple((_text(options, "id_path") or "").split(".")) if options.get("id_path") else (),
            required_headers=tuple(name.lower() for name in _texts(options, "required_headers")),
            networks=tuple(_network(text) for text in _texts(options, "allow")),
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
        for name in self.required_headers:
            header_of(signed, name)
        self._check_address(signed.address)
        if self.timestamp:
            text = header_of(signed, self.timestamp.header)
            check_timestamp(text, self.timestamp.unit, now=now, tolerance=self.timestamp.tolerance)
        if not matches:
            raise Unverified(Fault.WRONG_SIGNATURE)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        if self.id_header:
            return headers.get(self.id_header)
        for name in self.id_path:
            data = data.get(name) if isinstance(data, Mapping) else None
        return str(data) if self.id_path and isinstance(data, str | int) and data != "" else None

    def _matches(self, offered: str, expected: list[bytes]) -> bool:
        matched = False
        for candidate in self._candidates(offered):
            matched |= any([hmac.compare_digest(candidate, one) for one in expected])
        return matched

    def _candidates(self, offered: str) -> list[bytes]:
        several = (
            offered.split(self.separator, _MAX_CANDIDATES)[:_MAX_CANDIDATES] if self.separator else [offered]
        )
        stripped = [item.strip() for item in several]
        return [self._spelled(item[len(self.prefix) :]) for item in stripped if item.startswith(self.prefix)]

    def _spelled(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogatepass")
        return raw.lower() if self.encoding == "hex" else raw.rstrip(b"=")

    def _check_address(self, address: str | None) -> None:
        if not self.networks:
            return
        try:
            found = ipaddress.ip_address(address or "")
        except ValueError:
            raise Unverified(Fault.FOREIGN_ADDRESS) from None
        if not any(found in network for network in self.networks):
            raise Unverified(Fault.FOREIGN_ADDRESS)


def _timestamp(options: Mapping[str, Any]) -> Timestamp | None:
    header = _name(options, "timestamp_header")
    unit = _one_of(options, "timestamp_unit", tuple(TimestampUnit), TimestampUnit.SECONDS)
    return Timestamp(header, TimestampUnit(unit), tolerance_of(options)) if header else None


def _text(options: Mapping[str, Any], name: str) -> str | None:
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise SchemeError(f"`{name}` must be a text")
    return value


def _name(options: Mapping[str, Any], name: str) -> str | None:
    return (_text(options, name) or "").strip().lower() or None


def _texts(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = options.get(name) or ()
    given = (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    )
    if not all(isinstance(item, str) for item in given):
        raise SchemeError(f"`{name}` must be a list of texts")
    return given


def _one_of(options: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in known:
        raise SchemeError(f"`{name}` must be one of {', '.join(known)}")
    return str(value)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SchemeError(
            f"`allow` must hold addresses or networks such as 192.0.2.0/24, not {text!r}"
        ) from None


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
