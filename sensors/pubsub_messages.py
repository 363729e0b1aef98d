"""Pub/Sub messages become events: the same one whether a message was pulled or pushed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sensors.event import Event, bounded_key
from sensors.gcs_news import from_notification
from sensors.json_path import PathError, parse_path, values_at
from sensors.payloads import Format, read_payload, text_fault
from sensors.plain import storable

MESSAGE_TYPE = "pubsub.message"
JSON_PATH = "$."  # what tells a path into the body from the name of an attribute

_CONTENT_TYPES = {"json": "application/json", "text": "text/plain; charset=utf-8"}
_OPENERS = (b"{", b"[")


class BodyFormat(StrEnum):
    """How to read the bodies of messages. Pub/Sub does not say what they are; AUTO looks at the bytes."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, in Pub/Sub's words."""

    id: str
    subscription: str  # projects/P/subscriptions/S
    published: datetime  # aware UTC
    body: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""
    attempt: int = 0  # deliveries of it so far; 0 where the subscription has no dead-letter topic

    @property
    def source(self) -> str:
        return f"pubsub:{bounded_key(self.subscription)}"


@dataclass(frozen=True, slots=True)
class _Body:
    """What the bytes say, and as what they were read."""

    format: BodyFormat
    data: Any = None
    quarantine: str | None = None


def event_of(message: Message, form: BodyFormat = BodyFormat.AUTO, key: str | None = None) -> Event:
    """Make the message's event. Nothing in a message makes this raise.

    A notification of Cloud Storage becomes the event of its object, unless there is a `key`. That names the
    attribute, or by a JSON path the value in the body, by which the publisher's own repeats are known.
    """
    event = bare_event_of(message, form, key)
    news = from_notification(message.attributes, message.body) if key is None else None
    if news is None:
        return event
    return replace(news, headers=event.headers, raw=event.raw, content_type=event.content_type)


def bare_event_of(message: Message, form: BodyFormat = BodyFormat.AUTO, key: str | None = None) -> Event:
    """Make the message's event, whatever it may tell of."""
    body = read_body(message.body, form)
    headers, fault = _headers(message, body.format)
    quarantine = body.quarantine or fault
    return Event(
        source=message.source,
        key=bounded_key(_publishers_key(message, body.data, key) or message.id),
        type=MESSAGE_TYPE,
        time=message.published,
        data=None if quarantine else body.data,
        headers=headers,
        raw=message.body,
        content_type=_CONTENT_TYPES.get(body.format, "application/octet-stream"),
        quarantine=quarantine,
    )


def read_body(body: bytes, form: BodyFormat) -> _Body:
    """Read the bytes of a message; those that are no text become base64."""
    match form:
        case BodyFormat.AUTO:
            return _guessed(body)
        case BodyFormat.BYTES:
            return _Body(form, base64.b64encode(body).decode() if body else None)
    read = read_payload(body, None, Format(form))
    return _Body(form, read.data, read.quarantine)


def _guessed(body: bytes) -> _Body:
    """What begins like an object or a list is JSON, well or badly; other text is JSON where it can be."""
    if b"\x00" in body or not _is_utf8(body):
        return read_body(body, BodyFormat.BYTES)
    read = read_body(body, BodyFormat.JSON)
    if read.quarantine is None or body.lstrip().startswith(_OPENERS):
        return read
    return read_body(body, BodyFormat.TEXT)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _headers(message: Message, form: BodyFormat) -> tuple[dict[str, str], str | None]:
    """Return the attributes under lower-case names, and what Pub/Sub says; and what is wrong with them."""
    said = {
        "pubsub-message-id": message.id,
        "pubsub-subscription": message.subscription,
        "pubsub-publish-time": message.published.isoformat().replace("+00:00", "Z"),
        "pubsub-ordering-key": message.ordering_key,
        "pubsub-delivery-attempt": str(message.attempt) if message.attempt else "",
        "pubsub-format": str(form),
    }
    found = {name.lower(): value for name, value in message.attributes.items()}
    found |= {name: value for name, value in said.items() if value}
    faults = [
        f"the attribute {name[:80]!r} {fault}"
        for name, value in found.items()
        if (fault := text_fault(name) or text_fault(value))
    ]
    return {storable(name): storable(value) for name, value in found.items()}, next(iter(faults), None)


def _publishers_key(message: Message, data: Any, key: str | None) -> str | None:
    """Return the publisher's id of what the message says; None where the message has none."""
    if key is None:
        return None
    value = _at(data, key) if key.startswith(JSON_PATH) else message.attributes.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    return f"{key}={value}"


def _at(data: Any, path: str) -> Any:
    try:
        return next(values_at(data, parse_path(path)), None)
    except PathError:
        return None
