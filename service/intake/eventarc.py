"""Eventarc: CloudEvents of Google's that tell of an object or carry a Pub/Sub message.

They become the event of that object or message, the same by whatever road the news comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from sensors.event import Event
from sensors.gcs_news import MESSAGE_PUBLISHED, from_cloudevent
from sensors.pubsub_messages import event_of
from service.intake.pubsub_push import UnreadablePush, wrapped_message


def recognised(event: Event, *, source: str) -> Event:
    """Return the event that the CloudEvent tells of; the event itself where it tells of nothing else.

    `source` is the CloudEvent's own.
    """
    if event.quarantine is not None:
        return event
    news = from_cloudevent(event.type, source, event.subject, event.data)
    if news is not None:
        return replace(news, headers=event.headers, hops=event.hops)
    if event.type == MESSAGE_PUBLISHED and isinstance(event.data, Mapping):
        with suppress(UnreadablePush):
            return _unwrapped(event, event.data)
    return event


def _unwrapped(event: Event, envelope: Mapping[str, object]) -> Event:
    """Return the event of the message; where no subscription is named, under the identity it has."""
    content = envelope.get("message")
    if not isinstance(content, Mapping):
        return event
    message = wrapped_message(envelope, content, event.time)
    inner = event_of(message)
    inner = replace(inner, headers={**event.headers, **inner.headers}, hops=event.hops)
    if message.id and message.subscription:
        return inner
    return replace(inner, source=event.source, key=event.key)
