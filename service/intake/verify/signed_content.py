"""The bytes that a sender signs, from a template such as `v0:{ts}:{body}`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from service.intake.verify.base import SchemeError, Signed

Part = Callable[[Signed], bytes]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class SignedContent:
    """A compiled template. A header that is absent counts as empty."""

    parts: tuple[Part, ...]
    headers: frozenset[str]  # lower-case names that the template mentions

    @classmethod
    def compile(cls, template: str, *, ts: str | None, id: str | None) -> Self:
        """`ts` and `id` name the headers that `{ts}` and `{id}` stand for."""
        if "{body}" not in template:
            raise SchemeError("`content` must contain {body}, or the body would not be signed")
        named = {"ts": ts, "id": id}
        parts: list[Part] = []
        headers: set[str] = set()
        for index, piece in enumerate(_PLACEHOLDER.split(template)):
            if index % 2 == 0:
                parts.append(_literal(piece))
            elif piece == "body":
                parts.append(lambda signed: signed.body)
            elif piece == "url":
                parts.append(lambda signed: _bytes(signed.url))
            else:
                header = _header_name(piece, named)
                headers.add(header)
                parts.append(_header(header))
        return cls(tuple(parts), frozenset(headers))

    def of(self, signed: Signed) -> bytes:
        return b"".join([part(signed) for part in self.parts])


def _header_name(placeholder: str, named: dict[str, str | None]) -> str:
    kind, colon, name = placeholder.partition(":")
    if kind == "header" and name.strip():
        return name.strip().lower()
    if colon or kind not in named:
        raise SchemeError(
            f"`content` knows no {{{placeholder}}}; use {{body}} {{ts}} {{id}} {{url}} {{header:Name}}"
        )
    found = named[kind]
    if found is None:
        option = "timestamp_header" if kind == "ts" else "id_header"
        raise SchemeError(f"`content` has {{{kind}}}, so `{option}` must name the header it comes from")
    return found


def _literal(text: str) -> Part:
    fixed = text.encode()
    return lambda signed: fixed


def _header(name: str) -> Part:
    return lambda signed: _bytes(signed.headers.get(name, ""))


def _bytes(text: str) -> bytes:
    # WSGI hands header bytes over as latin-1; the sender signed those bytes.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
