"""A Pub/Sub push becomes the event of its message: wrapped in JSON, or bare with headers about it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sensors.event import Event
from sensors.moments import moment_of
from sensors.payloads import Format, read_payload
from sensors.pubsub_messages import MESSAGE_TYPE, Message, bare_event_of, event_of
from service.intake.doors import Door
from service.intake.redaction import redacted
from service.intake.refusals import Cause, Refused
from service.store.ids import new_id

META = "x-goog-pubsub-"

# What the transport says beside a bare message, whose attributes are headers, too.
_TRANSPORT = re.compile(
    "accept.*|authorization|connection|content-.*|expect|forwarded|from|host|keep-alive|te|trace.*|"
    f"transfer-encoding|upgrade|user-agent|via|x-cloud-trace-context|x-forwarded-.*|x-real-ip|{META}.*"
)
# Headers have lost the case of these names, by which a notification of Cloud Storage is known.
_NOTIFICATION = {
    name.lower(): name
    for name in (
        "bucketId",
        "eventTime",
        "eventType",
        "objectGeneration",
        "objectId",
        "overwrittenByGeneration",
        "overwroteGeneration",
    )
}


class UnreadablePush(Exception):
    """The body does not say what a push says. The text is the reason for the quarantine."""


def pushed_event(door: Door, body: bytes, headers: Mapping[str, str], now: datetime) -> Event:
    """Return the event of an authentic push: the one that pulling the message would have made.

    Raises Refused for a message that nothing tells from others: it stays in its subscription until that is
    mended, and its repeats would each start a run.
    """
    try:
        message = pushed_message(body, headers, now)
    except UnreadablePush as error:
        return Event(door.source, new_id(), MESSAGE_TYPE, now, raw=body, quarantine=str(error))
    # Behind an open door nobody can claim to have news of an object, or a message of a subscription.
    is_own = door.is_open or door.is_keyed_by_body or door.compiled.key is not None
    event = bare_event_of(message) if is_own else event_of(message)
    event = replace(
        event, headers=redacted(event.headers, door.scheme.secret_headers if door.scheme else frozenset())
    )
    if event.type != MESSAGE_TYPE:
        return event
    is_of_subscription = bool(message.subscription) and not door.is_open
    return replace(
        event,
        source=event.source if is_of_subscription else door.source,
        key=_default_key(door, message, event.key),
    )


def _default_key(door: Door, message: Message, key: str) -> str:
    if door.is_keyed_by_body:
        return f"sha256:{hashlib.sha256(message.body).hexdigest()}"
    if message.id:
        return key
    if door.compiled.key is not None:
        return new_id()  # until the trigger's own is known
    raise Refused(
        Cause.NO_MESSAGE_ID,
        "the message has no id, so that a repeat could not be known: make the subscription with "
        "--push-no-wrapper-write-metadata or without --push-no-wrapper, or give the trigger a `key`",
    )


def pushed_message(body: bytes, headers: Mapping[str, str], now: datetime) -> Message:
    """Read a push. The message has no `id` when neither its wrapper nor its headers tell one.

    Raises UnreadablePush.
    """
    if any(name.startswith(META) for name in headers):
        return _bare(body, headers, now)
    read = read_payload(body, None, Format.JSON, headers.get("content-encoding", ""))
    if read.quarantine is not None:
        raise UnreadablePush(read.quarantine)
    if isinstance(read.data, Mapping) and isinstance(read.data.get("message"), Mapping):
        return wrapped_message(read.data, read.data["message"], now)
    return _bare(body, headers, now)


def wrapped_message(envelope: Mapping[str, Any], message: Mapping[str, Any], now: datetime) -> Message:
    """Read a message as Pub/Sub wraps it in JSON. Raises UnreadablePush."""
    attributes = message.get("attributes")
    attempt = envelope.get("deliveryAttempt")
    try:
        body = base64.b64decode(str(message.get("data") or ""), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadablePush("the data of the message is not base64") from None
    return Message(
        id=_text(message, "messageId", "message_id"),
        subscription=_text(envelope, "subscription"),
        published=moment_of(_text(message, "publishTime", "publish_time")) or now,
        body=body,
        attributes={str(name): str(value) for name, value in attributes.items()}
        if isinstance(attributes, Mapping)
        else {},
        ordering_key=_text(message, "orderingKey", "ordering_key"),
        attempt=attempt if isinstance(attempt, int) else 0,
    )


def _bare(body: bytes, headers: Mapping[str, str], now: datetime) -> Message:
    attributes = {
        _NOTIFICATION.get(name, name): _utf8(value)
        for name, value in headers.items()
        if not _TRANSPORT.fullmatch(name)
    }
    return Message(
        id=headers.get(f"{META}message-id", ""),
        subscription=headers.get(f"{META}subscription-name", ""),
        published=moment_of(headers.get(f"{META}publish-time", "")) or now,
        body=body,
        attributes=attributes,
        ordering_key=_utf8(headers.get(f"{META}ordering-key", "")),
    )


def _text(fields: Mapping[str, Any], *names: str) -> str:
    """Return the first that is there; Pub/Sub spells its names in two ways."""
    return next((str(fields[name]) for name in names if fields.get(name) is not None), "")


def _utf8(value: str) -> str:
    """Headers come decoded as Latin-1, whatever they hold."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
