"""News of Cloud Storage objects: one identity and one shape of data, by whatever road the news came.

Listing, Pub/Sub notification, Eventarc and webhook all tell of the same object; each road's news becomes the
same event here: `gcs:{bucket}/{name}#{generation}:{what happened}`, so that the ledger keeps it once. A
generation names one content of an object for ever; a change of its metadata has a metageneration as well.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sensors.event import Event
from sensors.plain import storable

CLOUDEVENT_SOURCE = "//storage.googleapis.com/projects/_/buckets/"
CLOUDEVENT_SUBJECT = "objects/"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What happened to the object, as an event's key and `data.event` spell it."""

    FINALIZE = "finalize"  # a generation came to be: a new object, or an overwrite
    DELETE = "delete"  # it is gone, or was overwritten where the bucket keeps no versions
    ARCHIVE = "archive"  # it is no longer the live version, where the bucket keeps versions
    UPDATE = "metadata_update"


TYPES: Mapping[Kind, str] = {
    Kind.FINALIZE: "object.finalized",
    Kind.DELETE: "object.deleted",
    Kind.ARCHIVE: "object.archived",
    Kind.UPDATE: "object.updated",
}
NOTIFICATIONS: Mapping[str, Kind] = {
    "OBJECT_FINALIZE": Kind.FINALIZE,
    "OBJECT_DELETE": Kind.DELETE,
    "OBJECT_ARCHIVE": Kind.ARCHIVE,
    "OBJECT_METADATA_UPDATE": Kind.UPDATE,
}
CLOUDEVENTS: Mapping[str, Kind] = {
    "google.cloud.storage.object.v1.finalized": Kind.FINALIZE,
    "google.cloud.storage.object.v1.deleted": Kind.DELETE,
    "google.cloud.storage.object.v1.archived": Kind.ARCHIVE,
    "google.cloud.storage.object.v1.metadataUpdated": Kind.UPDATE,
}


class NotAnObject(ValueError):
    """The resource has no bucket, name or generation, so that it names no object."""


def object_event(
    resource: Mapping[str, Any],
    kind: Kind,
    *,
    at: str | None = None,
    overwrote: object = None,
    overwritten_by: object = None,
) -> Event:
    """Make the event of an object from its resource, in the words of Google's JSON API.

    `at` is when it happened, where the news says so; the resource's own times and the generation, which is a
    time too, stand in for it. Raises NotAnObject.
    """
    bucket, name = _text(resource.get("bucket")), _text(resource.get("name"))
    generation, metageneration = _number(resource.get("generation")), _number(resource.get("metageneration"))
    if not bucket or "/" in bucket or not name or generation is None:
        raise NotAnObject("an object has a bucket, a name and a generation")
    what = f"{kind}.{metageneration or 0}" if kind is Kind.UPDATE else str(kind)
    created, updated = _moment(resource.get("timeCreated")), _moment(resource.get("updated"))
    data = {
        "event": str(kind),
        "bucket": bucket,
        "name": name,
        "folder": name.rpartition("/")[0],
        "generation": str(generation),
        "metageneration": _digits(metageneration),
        "size": _number(resource.get("size")),
        "content_type": _text(resource.get("contentType")),
        "md5": _text(resource.get("md5Hash")),
        "crc32c": _text(resource.get("crc32c")),
        "created": _iso(created),
        "updated": _iso(updated),
        "metadata": _texts(resource.get("metadata")),
        "overwrote_generation": _digits(_number(overwrote)),
        "overwritten_by_generation": _digits(_number(overwritten_by)),
    }
    own_time = created if kind is Kind.FINALIZE else _moment(resource.get("timeDeleted")) or updated
    return Event(
        source=f"gcs:{bucket}",
        key=f"gcs:{bucket}/{name}#{generation}:{what}",
        type=TYPES[kind],
        time=_moment(at) or own_time or updated or _time_of(generation),
        subject=name,
        data=data,
        shared=True,
    )


def from_notification(attributes: Mapping[str, Any], data: object) -> Event | None:
    """Read a Cloud Storage notification: a Pub/Sub message's attributes, and its data as bytes or as JSON.

    The attributes alone name the object; without a payload the event knows no size. None for other messages.
    """
    kind = NOTIFICATIONS.get(str(attributes.get("eventType")))
    if kind is None:
        return None
    identity = {
        "bucket": attributes.get("bucketId"),
        "name": attributes.get("objectId"),
        "generation": attributes.get("objectGeneration"),
    }
    try:
        return object_event(
            {**_resource(data), **identity},
            kind,
            at=attributes.get("eventTime"),
            overwrote=attributes.get("overwroteGeneration"),
            overwritten_by=attributes.get("overwrittenByGeneration"),
        )
    except NotAnObject:
        return None


def from_cloudevent(type_: str, source: str, subject: str | None, data: object) -> Event | None:
    """Read an Eventarc event of Cloud Storage, or one of Pub/Sub that carries a notification; else None."""
    if type_ == MESSAGE_PUBLISHED:
        return _from_push(data)
    kind = CLOUDEVENTS.get(type_)
    if kind is None or not source.startswith(CLOUDEVENT_SOURCE):
        return None
    resource = dict(_resource(data))
    resource.setdefault("bucket", source.removeprefix(CLOUDEVENT_SOURCE))
    if subject and subject.startswith(CLOUDEVENT_SUBJECT):
        resource.setdefault("name", subject.removeprefix(CLOUDEVENT_SUBJECT))
    try:
        return object_event(resource, kind)
    except NotAnObject:
        return None


def from_body(data: object) -> Event | None:
    """Read the JSON body of a webhook: an object resource, a Pub/Sub push or a CloudEvent; else None.

    A bare resource does not say what happened to it: it is taken as the news of its coming, unless it says
    that it is deleted.
    """
    if not isinstance(data, Mapping):
        return None
    if "specversion" in data:
        subject = data.get("subject")
        return from_cloudevent(
            str(data.get("type")),
            str(data.get("source")),
            None if subject is None else str(subject),
            data.get("data"),
        )
    if data.get("kind") != "storage#object":
        return _from_push(data)
    if data.get("timeDeleted"):
        return None
    try:
        return object_event(data, Kind.FINALIZE)
    except NotAnObject:
        return None


def is_directory_marker(event: Event) -> bool:
    """Tell whether the object only stands for a folder: empty, and its name ends with a slash."""
    return str(event.subject).endswith("/") and event.data["size"] in (0, None)


def _from_push(data: object) -> Event | None:
    message = data.get("message") if isinstance(data, Mapping) else None
    attributes = message.get("attributes") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(attributes, Mapping):
        return None
    try:
        payload = base64.b64decode(str(message.get("data") or ""))
    except ValueError:
        payload = b""
    return from_notification(attributes, payload)


def _resource(data: object) -> Mapping[str, Any]:
    if isinstance(data, bytes | bytearray | str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            return {}
    return data if isinstance(data, Mapping) else {}


def _number(value: object) -> int | None:
    """Read a count that Google's services write as a number here and as a text there."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if re.fullmatch(r"[0-9]{1,20}", str(value)) else None


def _digits(value: int | None) -> str | None:
    return None if value is None else str(value)


def _text(value: object) -> str | None:
    return storable(value) if isinstance(value, str) else None


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(_text(str(key))): str(_text(str(item))) for key, item in value.items()}


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _time_of(generation: int) -> datetime:
    """Return the time in a generation: Cloud Storage counts them in microseconds since 1970."""
    try:
        return EPOCH + timedelta(microseconds=generation)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")
