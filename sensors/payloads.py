"""Bytes from outside become event data, or a reason why they cannot. No body makes this raise."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs

MAX_DEPTH = 100  # of nested objects and lists
MAX_FORM_FIELDS = 1000

_FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPES = frozenset({"", "application/json", "text/json", "application/octet-stream"})
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
_BOM = "\ufeff"
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_OPENERS = ("{", "[")


class Format(StrEnum):
    """How to read a body. AUTO goes by its content type."""

    AUTO = "auto"
    JSON = "json"
    FORM = "form"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Payload:
    """What a body says. `text` is `data` as JSON; `raw` is there where `text` cannot give the bytes back."""

    data: Any = None
    text: str | None = None
    raw: bytes | None = None
    quarantine: str | None = None


class _UnreadableError(Exception):
    """Carries the reason for the quarantine."""


def read_payload(
    body: bytes, content_type: str | None, form: Format = Format.AUTO, encoding: str = ""
) -> Payload:
    """Read a body. `encoding` is its Content-Encoding."""
    try:
        return _read(body, content_type or "", form, encoding)
    except _UnreadableError as error:
        return Payload(raw=body, quarantine=str(error))


def _read(body: bytes, content_type: str, form: Format, encoding: str) -> Payload:
    if encoding.strip().lower() not in ("", "identity"):
        raise _UnreadableError(
            f"the content encoding {encoding[:40]!r} is not supported; send the body as it is"
        )
    if not body:
        return Payload()
    media_type, charset = _content_type(content_type)
    text = _decoded(body, charset)
    match _format(form, media_type, text):
        case Format.JSON:
            return _json_payload(body, text, charset)
        case Format.FORM:
            data: Any = _form(text)
        case _:
            data = text
    _refuse_unstorable(data)
    return Payload(data=data, text=json.dumps(data), raw=body)


def _content_type(value: str) -> tuple[str, str]:
    """Return the media type and the codec; UTF-8 where no charset is named."""
    media_type, _, parameters = value.partition(";")
    for parameter in parameters.split(";"):
        name, _, given = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media_type.strip().lower(), _codec(given.strip().strip("\"'").lower())
    return media_type.strip().lower(), "utf-8"


def _codec(charset: str) -> str:
    codec = _CHARSETS.get(charset)
    if codec is None:
        raise _UnreadableError(f"the charset {charset[:40]!r} is not supported; use utf-8")
    return codec


def _decoded(body: bytes, codec: str) -> str:
    try:
        return body.decode(codec).removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise _UnreadableError(f"the body is not {codec}: byte {error.start} cannot be read") from None


def _format(form: Format, media_type: str, text: str) -> Format:
    if form is not Format.AUTO:
        return form
    if media_type in _JSON_TYPES or media_type.endswith("+json"):
        return Format.JSON
    if media_type == _FORM_TYPE:
        # curl -d calls everything a form.
        return Format.JSON if text.lstrip().startswith(_OPENERS) else Format.FORM
    if media_type.startswith("text/") or media_type in ("application/xml", "application/yaml"):
        return Format.TEXT
    raise _UnreadableError(f"the content type {media_type[:80]!r} is not read; send JSON, a form or text")


def _json_payload(body: bytes, text: str, codec: str) -> Payload:
    data = _json(text)
    if _SUSPECT_ESCAPE.search(text):
        _refuse_unstorable(data)
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deeper(data, MAX_DEPTH):
        raise _UnreadableError(f"the JSON is nested more than {MAX_DEPTH} deep")
    gives_back = codec in ("utf-8", "ascii") and not body.startswith(b"\xef\xbb\xbf")
    return Payload(data=data, text=text, raw=None if gives_back else body)


def _json(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _UnreadableError(
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise _UnreadableError(f"the JSON is nested more than {MAX_DEPTH} deep") from None
    except ValueError:  # Python refuses integers of more than 4300 digits
        raise _UnreadableError("the JSON has an integer of too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _UnreadableError(f"the key {twice[:80]!r} is there twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _UnreadableError(f"the number {text[:40]} is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise _UnreadableError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def _form(text: str) -> dict[str, Any]:
    try:
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise _UnreadableError(f"the body is not a form of at most {MAX_FORM_FIELDS} fields") from None
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _is_deeper(data: Any, limit: int) -> bool:
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(limit):
        children = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for group in children for child in group if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _refuse_unstorable(data: Any) -> None:
    """Refuse texts that no database and no file can hold."""
    pending = [data]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending.extend(node)
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, str):
            _refuse_text(node)


def _refuse_text(text: str) -> None:
    fault = text_fault(text)
    if fault is not None:
        raise _UnreadableError(f"a text {fault}")


def text_fault(text: str) -> str | None:
    """Say what keeps a text out of every database and file; None when nothing does."""
    if "\x00" in text:
        return "holds the character NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    return None
