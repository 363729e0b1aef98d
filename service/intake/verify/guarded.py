"""What a door may want beside any scheme: senders of known networks, headers that must be there."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified, header_of
from service.intake.verify.options import read_headers, read_texts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Guarded(Scheme):
    """Accepts what `scheme` accepts, from one of the networks and with the headers."""

    scheme: Scheme
    networks: tuple[Network, ...] = ()
    required_headers: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.scheme.is_open

    @property
    def secret_headers(self) -> frozenset[str]:
        return self.scheme.secret_headers

    def verify(self, signed: Signed, now: datetime) -> None:
        # The scheme first, so that a foreign address is refused no sooner than a bad signature.
        self.scheme.verify(signed, now)
        for name in self.required_headers:
            header_of(signed, name)
        if self.networks and not _is_within(signed.address, self.networks):
            raise Unverified(Fault.FOREIGN_ADDRESS)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        return self.scheme.delivery_id(headers, data)

    def challenge(self, body: bytes) -> str | None:
        return self.scheme.challenge(body)


def guarded(scheme: Scheme, options: Mapping[str, Any]) -> Scheme:
    """Add what `allow` and `required_headers` want; return `scheme` itself where they want nothing."""
    networks = tuple(_network(text) for text in read_texts(options, "allow"))
    required = read_headers(options, "required_headers")
    return Guarded(scheme, networks, required) if networks or required else scheme


def _is_within(address: str | None, networks: tuple[Network, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    # A socket that listens on both families shows an IPv4 sender as ::ffff:192.0.2.1.
    plain = getattr(found, "ipv4_mapped", None) or found
    return any(plain in network for network in networks)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SchemeError(
            f"`allow` must hold addresses or networks such as 192.0.2.0/24, not {text!r}"
        ) from None
