"""The bytes that a sender signs, from a template such as `v0:{ts}:{body}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from service.intake.verify.base import SchemeError, Signed

Part = Callable[[Signed], bytes]
Text = Callable[[Signed], str]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class SignedContent:
    """A compiled template. A header that is absent counts as empty."""

    parts: tuple[Part, ...]
    placeholders: frozenset[str]  # as the template has them, headers in lower case

    @classmethod
    def compile(cls, template: str, named: Mapping[str, Text | None]) -> Self:
        """`named` tells what `{ts}`, `{id}` and `{url}` stand for; None where nothing says it."""
        if "{body}" not in template:
            raise SchemeError("`content` must contain {body}, or the body would not be signed")
        parts: list[Part] = []
        placeholders: set[str] = set()
        for index, piece in enumerate(_PLACEHOLDER.split(template)):
            if index % 2 == 0:
                parts.append(_literal(piece))
            else:
                name = piece.lower() if piece.startswith("header:") else piece
                placeholders.add(name)
                parts.append(_part(name, named))
        return cls(tuple(parts), frozenset(placeholders))

    def of(self, signed: Signed) -> bytes:
        return b"".join([part(signed) for part in self.parts])


def header_text(name: str) -> Text:
    """Return what reads the header of this lower-case name."""
    return lambda signed: signed.headers.get(name, "")


def wire_bytes(text: str) -> bytes:
    """Return a header or an address as it came over the wire."""
    # WSGI hands such bytes over as latin-1; the sender signed the bytes.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _part(placeholder: str, named: Mapping[str, Text | None]) -> Part:
    if placeholder == "body":
        return lambda signed: signed.body
    kind, colon, name = placeholder.partition(":")
    if kind == "header" and name.strip():
        return _encoded(header_text(name.strip()))
    if colon or kind not in named:
        raise SchemeError(
            f"`content` knows no {{{placeholder}}}; use {{body}} {{ts}} {{id}} {{url}} {{header:Name}}"
        )
    found = named[kind]
    if found is None:
        option = "timestamp_header" if kind == "ts" else "id_header"
        raise SchemeError(f"`content` has {{{kind}}}, so `{option}` must name the header it comes from")
    return _encoded(found)


def _literal(text: str) -> Part:
    fixed = text.encode()
    return lambda signed: fixed


def _encoded(text: Text) -> Part:
    return lambda signed: wire_bytes(text(signed))
