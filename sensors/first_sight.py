"""Remembers what was there at a first look, until that look is committed to its end.

Systems without a clock of their own cannot tell afterwards what came between the first look and its repeat
after a crash: without this memory, that would count as having been there, and start nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import blake2b

_SIZE = 8  # bytes of a digest; two of 100,000 things share one with a chance of 1 in 3 billion


class FirstSight:
    """A set of keys, by short digests."""

    def __init__(self, digests: frozenset[bytes]) -> None:
        self._digests = digests

    @classmethod
    def of(cls, keys: Iterable[str]) -> FirstSight:
        return cls(frozenset(map(_digest, keys)))

    @classmethod
    def parse(cls, text: str) -> FirstSight:
        joined = base64.b64decode(text)
        return cls(frozenset(joined[start : start + _SIZE] for start in range(0, len(joined), _SIZE)))

    def text(self) -> str:
        return base64.b64encode(b"".join(sorted(self._digests))).decode()

    def __contains__(self, key: str) -> bool:
        return _digest(key) in self._digests


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_SIZE).digest()
