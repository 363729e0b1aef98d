"""Fetches one HTTP resource, within bounds of time and size, and from no address that is not meant.

The address is resolved once, checked, and connected to: what the name means a moment later (DNS rebinding)
changes nothing. Every redirect is a new address, checked again. No proxy of the environment is used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from sensors.base import SensorError

MOST_REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # that stay as they are in a path or a query
# Addresses of the second form stand for IPv4 ones, which may be private.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What else is public among IPv6: other ranges are local, special, or ways to write an IPv4 address.
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
# Called public by the standard library, and are not: protocol assignments, the wire server of Azure.
_SPECIAL_IPV4 = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Request:
    """What to fetch, and the bounds."""

    url: str = field(repr=False)  # may hold a secret in its query
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0
    max_bytes: int = 10_000_000
    most_redirects: int = MOST_REDIRECTS  # with none, the answer that redirects is returned
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


def fetch(request: Request) -> Response:
    """Return the answer, whatever its status, after redirects. Raises SensorError."""
    deadline = time.monotonic() + request.timeout_seconds
    most = request.most_redirects
    for _ in range(most + 1):
        target = _target(request.url)
        try:
            response = _ask(request, target, deadline)
        except TimeoutError:
            raise SensorError(
                f"{shown(request.url)} did not answer within {request.timeout_seconds:g} s"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SensorError(
                f"{shown(request.url)} cannot be fetched: {_told(error)}; it is tried again"
            ) from error
        location = response.headers.get("location")
        if response.status not in _REDIRECTS or not location or not most:
            return response
        request = _redirected(request, response.status, location)
    raise SensorError(f"{shown(request.url)} redirects more than {most} times")


def shown(url: str) -> str:
    """Return the address without what may be secret: its user, its path (a bot's token), its query."""
    parts = _split(url)
    rest = "/…" if parts.path.strip("/") or parts.query else parts.path
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], rest, "", ""))


def refuse_private(address: Address, host: str) -> None:
    """Raise SensorError for an address that is not of the public internet."""
    if not _is_public(_inner(address)):
        raise SensorError(
            f"{_named(host, address)} an address of a private network, this machine or its provider; "
            "set `allow_private: true` where this is meant"
        )


def _named(host: str, address: Address) -> str:
    return f"{host} is" if host == str(address) else f"{host} is {address},"


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
        return False
    is_special = any(address in network for network in _SPECIAL_IPV4)
    return address.is_global and not address.is_multicast and not is_special


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise SensorError(f"the address cannot be read: {error}") from None


def _target(url: str) -> SplitResult:
    parts = _split(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SensorError(f"{shown(url)} is no address of http:// or https://")
    try:
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        raise SensorError(f"{shown(url)} has no valid port") from None
    return parts


def _ask(request: Request, target: SplitResult, deadline: float) -> Response:
    connection = _Connection(target, _resolved(target, request), deadline)
    watchdog = threading.Timer(_left(deadline), connection.cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        path = quote(urlunsplit(("", "", target.path or "/", target.query, "")), safe=_URL_CHARACTERS)
        headers = {"User-Agent": "Millrace", "Accept-Encoding": "identity", **request.headers}
        connection.request(request.method, path, body=request.body, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        body = _body(answer, request)
        _left(deadline)  # what was cut looks whole
        return Response(answer.status, found, body)
    except (OSError, http.client.HTTPException):
        _left(deadline)  # the error is what the cut looks like
        raise
    except ValueError:  # its text has the value, which may be a secret
        raise SensorError(f"{shown(request.url)}: a header has a value that HTTP cannot carry") from None
    finally:
        watchdog.cancel()
        connection.close()


def _resolved(target: SplitResult, request: Request) -> list[tuple[str, int]]:
    """Resolve the host, once, and return the addresses to connect to. Raises SensorError."""
    host = str(target.hostname)
    port = target.port or _PORTS[target.scheme]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SensorError(f"the host {host} cannot be found: {_told(error)}; it is tried again") from error
    addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    if not request.allow_private:
        for address in addresses:
            refuse_private(address, host)
    return [(str(address), port) for address in addresses]


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was resolved before, and speaks to it as the host that it stands for."""

    def __init__(self, target: SplitResult, addresses: Sequence[tuple[str, int]], deadline: float) -> None:
        super().__init__(str(target.hostname), target.port or _PORTS[target.scheme])
        self.default_port = _PORTS[target.scheme]  # so that `Host` names no port where none is needed
        self._is_tls = target.scheme == "https"
        self._addresses = addresses
        self._deadline = deadline
        self._open: socket.socket | None = None  # http.client forgets its own before the body is read

    def connect(self) -> None:
        self.sock = self._connected()
        if self._is_tls:
            context = ssl.create_default_context()
            self.sock = self._open = context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()
        self._open = self.sock

    def _connected(self) -> socket.socket:
        """Connect to the first address that answers; `localhost` often means two, and one serves."""
        *others, last = self._addresses
        for address in others:
            with suppress(OSError):
                return socket.create_connection(address, timeout=_left(self._deadline))
        return socket.create_connection(last, timeout=_left(self._deadline))

    def cut(self) -> None:
        """End the connection from another thread. A time limit of the socket bounds only a single wait."""
        if self._open is not None:
            with suppress(OSError):  # it is at its end already
                socket.socket.shutdown(self._open, socket.SHUT_RDWR)


def _body(answer: http.client.HTTPResponse, request: Request) -> bytes:
    encoding = answer.getheader("Content-Encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise SensorError(f"{shown(request.url)} answers in the encoding {encoding}, which was not asked for")
    parts: list[bytes] = []
    size = 0
    while chunk := answer.read1(CHUNK_BYTES):
        parts.append(chunk)
        size += len(chunk)
        if size > request.max_bytes:
            raise SensorError(
                f"{shown(request.url)} answers with more than {request.max_bytes:,} bytes; "
                "raise `max_bytes`, or ask for less"
            )
    return b"".join(parts)


def _redirected(request: Request, status: int, location: str) -> Request:
    """Return the request for the new address. Headers, which may hold secrets, stay with the old host."""
    before, url = _split(request.url), _joined(request.url, location)
    after = _split(url)
    if before.scheme == "https" and after.scheme == "http":
        raise SensorError(f"{shown(request.url)} redirects to {shown(url)}, which is not encrypted")
    same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
    changed = replace(request, url=url, headers=request.headers if same else {})
    if status in (301, 302, 303) and request.method not in ("GET", "HEAD"):
        return replace(changed, method="GET", body=None)
    return changed


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, quote(location, safe=_URL_CHARACTERS, encoding="latin-1"))
    except ValueError as error:
        raise SensorError(f"{shown(url)} redirects to what is no address: {error}") from None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
