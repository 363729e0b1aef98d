"""Certificates that an issuer of tokens publishes: fetched when wanted, kept as long as it says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from service.intake.verify.base import SchemeError, Undecided

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FETCH_SECONDS = 5.0
_MAX_BYTES = 1_000_000
_SHORTEST = timedelta(minutes=1)  # between two fetches, however many tokens name keys that are not there
_LONGEST = timedelta(days=1)
_AFTER_FAILURE = timedelta(seconds=5)  # so that an address that hangs does not hold every request
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Published:
    """What the address answered: certificates in PEM by the id of their key, as JSON, and for how long."""

    body: bytes
    max_age: timedelta


@dataclass(frozen=True, slots=True)
class _Kept:
    keys: Mapping[str, RSAPublicKey]
    fetched_at: datetime
    good_until: datetime


class Certificates:
    """Hands out public keys. Safe to use from many threads; one fetches, the others wait for it."""

    def __init__(self, url: str, fetch: Callable[[str], Published] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise SchemeError("`certificates` must be an https address")
        self._url = url
        self._fetch = fetch or fetch_published
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._failed_at: datetime | None = None

    def key(self, key_id: str, now: datetime) -> RSAPublicKey | None:
        """Return the key of that id, None when there is no such. Raises Undecided when nobody can tell."""
        kept = self._kept
        if kept is None or not _answers(kept, key_id, now):
            with self._lock:
                kept = self._kept
                if kept is None or not _answers(kept, key_id, now):
                    kept = self._kept = self._renewed(now)
        return kept.keys.get(key_id)

    def _renewed(self, now: datetime) -> _Kept:
        if self._failed_at is not None and abs(now - self._failed_at) < _AFTER_FAILURE:
            raise Undecided(f"the certificates at {self._url} could not be fetched a moment ago")
        self._failed_at = now
        try:
            published = self._fetch(self._url)
            keys = _keys(published.body)
        except (OSError, HTTPException, ValueError, UnsupportedAlgorithm) as error:
            raise Undecided(f"the certificates at {self._url} cannot be fetched: {error}") from error
        self._failed_at = None
        return _Kept(keys, now, now + min(max(published.max_age, _SHORTEST), _LONGEST))


class _NoRedirects(HTTPRedirectHandler):
    """A redirect could lead from https to http: it ends the fetch as an HTTPError."""

    def redirect_request(self, *_: object) -> None:
        return None


def fetch_published(url: str) -> Published:
    """Fetch. Raises OSError, HTTPException and ValueError."""
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked above
    with build_opener(_NoRedirects).open(request, timeout=_FETCH_SECONDS) as answer:
        body = answer.read(_MAX_BYTES + 1)
        match = _MAX_AGE.search(answer.headers.get("Cache-Control") or "")
        age = answer.headers.get("Age") or "0"
    if len(body) > _MAX_BYTES:
        raise ValueError(f"the answer has more than {_MAX_BYTES:,} bytes")
    seconds = int(match[1]) - (int(age) if age.isdecimal() else 0) if match else 0
    return Published(body, timedelta(seconds=min(max(seconds, 0), _LONGEST.total_seconds())))


def _answers(kept: _Kept, key_id: str, now: datetime) -> bool:
    """Say whether another fetch would tell nothing new: a key that is not there may be a new one."""
    if not kept.fetched_at <= now < kept.good_until:
        return False
    return key_id in kept.keys or now - kept.fetched_at < _SHORTEST


def _keys(body: bytes) -> dict[str, RSAPublicKey]:
    found = json.loads(body)
    if not isinstance(found, dict) or not all(isinstance(pem, str) for pem in found.values()):
        raise ValueError("they are no JSON object of PEM texts by key id")
    keys = {name: load_pem_x509_certificate(pem.encode()).public_key() for name, pem in found.items()}
    return {name: key for name, key in keys.items() if isinstance(key, RSAPublicKey)}
