"""CloudEvents 1.0 over HTTP: reads what a request holds, in any of the three modes, as events.

What claims to be a CloudEvent and cannot be read becomes a quarantined event, so that its sender does not
retry for days. Only what is no CloudEvent at all raises.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from sensors.event import Event, bounded_key
from sensors.payloads import Format, Payload, read_payload, text_fault
from sensors.pubsub_messages import BodyFormat, read_body
from service.intake.eventarc import recognised
from service.intake.redaction import redacted
from service.intake.refusals import Cause, Refused

SOURCE_PREFIX = "cloudevents:"  # of the sources of events, so that no sender can speak for another road
UNREADABLE_SOURCE = f"{SOURCE_PREFIX}unreadable"
UNREADABLE_TYPE = "cloudevent.unreadable"
HOPS = "millracehops"  # the extension by which a chain over several services knows its length
MAX_BATCH = 256

_STRUCTURED = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_JSON_SUFFIX = "+json"
_HEADER_PREFIX = "ce-"
_REQUIRED = ("id", "source", "type", "specversion")
_DATA_NAMES = frozenset({"data", "data_base64"})
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_FORM = "application/x-www-form-urlencoded"


class _MalformedError(Exception):
    """It claims to be a CloudEvent and breaks its rules. One sentence."""


@dataclass(frozen=True, slots=True)
class _Context:
    """The attributes of one CloudEvent, checked."""

    id: str
    source: str
    type: str
    time: datetime | None
    subject: str | None
    content_type: str | None
    hops: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Receiving:
    """How a request is read.

    `takes_news`: news of objects and messages is taken for that of the systems they come from, whoever else
    tells of them. Only of senders that had to prove who they are.
    """

    now: datetime
    takes_news: bool

    def read(self, body: bytes, headers: Mapping[str, str]) -> list[Event]:
        """Return the request's events: one, or those of a batch. Raises Refused for what holds none."""
        media_type = _media_type(headers.get("content-type", ""))
        if media_type.startswith(_STRUCTURED):
            if not media_type.endswith(_JSON_SUFFIX):
                raise Refused(Cause.NO_CLOUDEVENT, f"events are read as JSON, not as {media_type[:80]!r}")
            return self._batch(body, headers) if is_batch(headers) else [self._structured(body, headers)]
        if "ce-specversion" not in headers and "ce-id" not in headers:
            raise Refused(
                Cause.NO_CLOUDEVENT, "neither its content type nor its headers tell of a CloudEvent"
            )
        return [self._binary(body, headers)]

    def _batch(self, body: bytes, headers: Mapping[str, str]) -> list[Event]:
        payload = _json_body(body, headers)
        if payload.quarantine is None and not isinstance(payload.data, list):
            return [self._unreadable(body, headers, "a batch of CloudEvents must be a list")]
        if payload.quarantine is not None:
            return [self._unreadable(body, headers, payload.quarantine)]
        if len(payload.data) > MAX_BATCH:
            raise Refused(Cause.TOO_LARGE, f"the batch has {len(payload.data)} events, over {MAX_BATCH}")
        return [self._from_json(item) for item in payload.data]

    def _structured(self, body: bytes, headers: Mapping[str, str]) -> Event:
        payload = _json_body(body, headers)
        if payload.quarantine is not None:
            return self._unreadable(body, headers, payload.quarantine)
        return self._from_json(payload.data)

    def _from_json(self, item: Any) -> Event:
        try:
            if not isinstance(item, dict):
                raise _MalformedError("a CloudEvent must be an object")
            attributes = dict(_attributes_in(item))
            context = _context(attributes, attributes.get("datacontenttype"))
            payload = _payload_in(item, context.content_type)
        except _MalformedError as error:
            headers = {"content-type": f"{_STRUCTURED}{_JSON_SUFFIX}"}
            return self._unreadable(json.dumps(item).encode(), headers, str(error))
        return self._event(context, payload)

    def _binary(self, body: bytes, headers: Mapping[str, str]) -> Event:
        try:
            attributes = {
                name.removeprefix(_HEADER_PREFIX): _decoded(name, value)
                for name, value in headers.items()
                if name.startswith(_HEADER_PREFIX)
            }
            context = _context(attributes, headers.get("content-type"))
        except _MalformedError as error:
            return self._unreadable(body, headers, str(error))
        return self._event(
            context, _read_bytes(body, context.content_type, headers.get("content-encoding", ""))
        )

    def _event(self, context: _Context, payload: Payload) -> Event:
        event = Event(
            source=SOURCE_PREFIX + bounded_key(context.source),
            key=bounded_key(context.id),
            type=context.type,
            time=context.time or self.now,
            subject=context.subject,
            data=payload.data,
            headers=redacted(context.headers),
            raw=payload.raw,
            content_type=context.content_type,
            quarantine=payload.quarantine,
            hops=context.hops,
        )
        if not self.takes_news:
            return event
        return recognised(event, source=context.source)

    def _unreadable(self, body: bytes, headers: Mapping[str, str], fault: str) -> Event:
        """Keep what came under a digest of itself: the mended event must not be taken for a repeat."""
        own = {
            name: value
            for name, value in headers.items()
            if name.startswith(_HEADER_PREFIX) or name == "content-type"
        }
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode() + b"\n" + body)
        return Event(
            source=UNREADABLE_SOURCE,
            key=f"sha256:{digest.hexdigest()}",
            type=UNREADABLE_TYPE,
            time=self.now,
            headers=redacted(own),
            raw=body,
            content_type=headers.get("content-type"),
            quarantine=fault,
        )


def is_batch(headers: Mapping[str, str]) -> bool:
    """Tell whether a request with these headers holds a list of events."""
    return _media_type(headers.get("content-type", "")).startswith(_BATCH)


def _json_body(body: bytes, headers: Mapping[str, str]) -> Payload:
    return read_payload(body, headers["content-type"], Format.JSON, headers.get("content-encoding", ""))


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _decoded(name: str, value: str) -> str:
    """Return the text of a header's value: unquoted, and percent-decoded once."""
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = _ESCAPED.sub(r"\1", text[1:-1])
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise _MalformedError(f"the header {name[:80]} is not UTF-8 once it is percent-decoded") from None


def _attributes_in(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in item.items():
        if name in _DATA_NAMES or value is None:
            continue
        if name != name.lower() and name.lower() in item:
            raise _MalformedError(f"the attribute {name.lower()[:80]!r} is there twice")
        if isinstance(value, bool):
            yield name.lower(), str(value).lower()
        elif isinstance(value, str | int | float):
            yield name.lower(), str(value)
        else:
            raise _MalformedError(f"the attribute {name[:80]!r} must be a text, a number or a boolean")


def _context(attributes: Mapping[str, str], content_type: str | None) -> _Context:
    """Check the attributes. Raises _MalformedError."""
    for name, value in attributes.items():
        if _CONTROL.search(value) or text_fault(value):
            raise _MalformedError(f"the attribute {name[:80]!r} holds a character that is not allowed")
    for name in _REQUIRED:
        if not attributes.get(name):
            raise _MalformedError(f"the attribute {name!r} is missing or empty")
    if attributes["specversion"] != "1.0":
        raise _MalformedError(f"the specversion {attributes['specversion'][:20]!r} is not read; 1.0 is")
    own = {
        f"{_HEADER_PREFIX}{name}": value for name, value in attributes.items() if name != "datacontenttype"
    }
    return _Context(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        time=_time(attributes.get("time")),
        subject=attributes.get("subject") or None,
        content_type=content_type or None,
        hops=_hops(attributes.get(HOPS, "")),
        headers={**own, "content-type": content_type} if content_type else own,
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None or "T" not in text.upper():
            raise ValueError
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _MalformedError(f"the time {text[:40]!r} is not like 2024-01-31T05:00:00Z") from None


def _hops(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0


def _payload_in(item: Mapping[str, Any], content_type: str | None) -> Payload:
    encoded = item.get("data_base64")
    if encoded is None:
        return Payload(data=item.get("data"))
    if item.get("data") is not None:
        raise _MalformedError("it has both `data` and `data_base64`")
    try:
        return _read_bytes(base64.b64decode(encoded, validate=True), content_type)
    except (binascii.Error, TypeError, ValueError):
        raise _MalformedError("`data_base64` is not base64") from None


def _read_bytes(data: bytes, content_type: str | None, encoding: str = "") -> Payload:
    """Read data by its content type, or by its looks where it has none. What is no text becomes base64."""
    media_type = _media_type(content_type or "")
    form = _format_of(media_type)
    if encoding or (media_type and form is not None):
        return read_payload(data, content_type, form or Format.AUTO, encoding)
    read = read_body(data, BodyFormat.BYTES if media_type else BodyFormat.AUTO)
    return Payload(data=read.data, raw=data, quarantine=read.quarantine)


def _format_of(media_type: str) -> Format | None:
    if media_type in ("application/json", "text/json") or media_type.endswith(_JSON_SUFFIX):
        return Format.JSON
    if media_type == _FORM:
        return Format.AUTO
    is_text = media_type.startswith("text/") or media_type.endswith(("+xml", "/xml", "/yaml"))
    return Format.TEXT if is_text else None
