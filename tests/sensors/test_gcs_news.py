"""News of Cloud Storage objects: the same event by every road."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sensors.event import Event
from sensors.gcs_news import (
    Kind,
    NotAnObject,
    from_body,
    from_cloudevent,
    from_notification,
    is_directory_marker,
    object_event,
)

GOOGLE = Path(__file__).parents[3] / "shared" / "data" / "webhooks" / "google"
needs_payloads = pytest.mark.skipif(not GOOGLE.exists(), reason="Google's example payloads are not here")

FINALIZED = "google.cloud.storage.object.v1.finalized"
SOURCE = "//storage.googleapis.com/projects/_/buckets/lake"
KEY = "gcs:lake/yellow/2024.parquet#1587627537231057:finalize"
RESOURCE: dict[str, Any] = {
    "kind": "storage#object",
    "bucket": "lake",
    "name": "yellow/2024.parquet",
    "generation": "1587627537231057",
    "metageneration": "1",
    "size": "352",
    "contentType": "application/octet-stream",
    "md5Hash": "kF8MuJ5+CTJxvyhHS1xzRg==",
    "crc32c": "rTVTeQ==",
    "timeCreated": "2020-04-23T07:38:57.230Z",
    "updated": "2020-04-23T07:38:57.230Z",
    "metadata": {"team": "taxi"},
}
ATTRIBUTES = {
    "eventType": "OBJECT_FINALIZE",
    "payloadFormat": "JSON_API_V1",
    "bucketId": "lake",
    "objectId": "yellow/2024.parquet",
    "objectGeneration": "1587627537231057",
    "eventTime": "2020-04-23T07:38:57.230000Z",
    "notificationConfig": "projects/_/buckets/lake/notificationConfigs/1",
}


def push(attributes: dict[str, str], resource: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(resource).encode()).decode()
    return {
        "message": {"data": data, "attributes": attributes, "messageId": "1"},
        "subscription": "projects/p/subscriptions/s",
    }


def structured(resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "1",
        "type": FINALIZED,
        "source": SOURCE,
        "subject": "objects/yellow/2024.parquet",
        "data": resource,
    }


def listed() -> Event:
    return object_event(RESOURCE, Kind.FINALIZE)


def test_the_shape_of_the_data() -> None:
    event = listed()

    assert (event.source, event.key, event.type) == ("gcs:lake", KEY, "object.finalized")
    assert event.time == datetime(2020, 4, 23, 7, 38, 57, 230_000, tzinfo=UTC)
    assert event.data == {
        "event": "finalize",
        "bucket": "lake",
        "name": "yellow/2024.parquet",
        "folder": "yellow",
        "generation": "1587627537231057",
        "metageneration": "1",
        "size": 352,
        "content_type": "application/octet-stream",
        "md5": "kF8MuJ5+CTJxvyhHS1xzRg==",
        "crc32c": "rTVTeQ==",
        "created": "2020-04-23T07:38:57.230000Z",
        "updated": "2020-04-23T07:38:57.230000Z",
        "metadata": {"team": "taxi"},
        "overwrote_generation": None,
        "overwritten_by_generation": None,
    }


@pytest.mark.parametrize(
    "news",
    [
        pytest.param(from_notification(ATTRIBUTES, json.dumps(RESOURCE).encode()), id="pubsub"),
        pytest.param(
            from_cloudevent(FINALIZED, SOURCE, "objects/yellow/2024.parquet", RESOURCE), id="eventarc"
        ),
        pytest.param(
            from_cloudevent(
                "google.cloud.pubsub.topic.v1.messagePublished",
                "//pubsub.googleapis.com/projects/p/topics/t",
                None,
                push(ATTRIBUTES, RESOURCE),
            ),
            id="eventarc of pubsub",
        ),
        pytest.param(from_body(RESOURCE), id="webhook"),
        pytest.param(from_body(push(ATTRIBUTES, RESOURCE)), id="push"),
        pytest.param(from_body(structured(RESOURCE)), id="structured cloudevent"),
        pytest.param(
            object_event(
                {**RESOURCE, "generation": 1587627537231057, "size": 352, "metageneration": 1}, Kind.FINALIZE
            ),
            id="numbers",
        ),
    ],
)
def test_every_road_brings_the_same_event(news: Event | None) -> None:
    assert news == listed()


def test_a_notification_without_payload_has_the_identity_and_no_size() -> None:
    event = from_notification(ATTRIBUTES | {"payloadFormat": "NONE"}, b"")

    assert event is not None
    assert event.key == KEY
    assert event.time == listed().time
    assert event.data.keys() == listed().data.keys()
    assert event.data["size"] is None


@pytest.mark.parametrize("data", [b"\xff", b"{", b"[" * 100_000, b"[1]", b'{"size": NaN}', None, 7])
def test_an_unreadable_payload_leaves_what_the_attributes_say(data: object) -> None:
    event = from_notification(ATTRIBUTES, data)

    assert event is not None
    assert event.key == KEY


@pytest.mark.parametrize(
    ("name", "key", "type_"),
    [
        ("OBJECT_DELETE", "delete", "object.deleted"),
        ("OBJECT_ARCHIVE", "archive", "object.archived"),
        ("OBJECT_METADATA_UPDATE", "metadata_update.3", "object.updated"),
    ],
)
def test_other_things_that_happen_have_keys_of_their_own(name: str, key: str, type_: str) -> None:
    event = from_notification(ATTRIBUTES | {"eventType": name}, RESOURCE | {"metageneration": 3})

    assert event is not None
    assert event.key == KEY.replace("finalize", key)
    assert event.type == type_


def test_an_overwrite_names_both_generations() -> None:
    finalized = from_notification(ATTRIBUTES | {"overwroteGeneration": "15"}, RESOURCE)
    deleted = from_notification(
        ATTRIBUTES | {"eventType": "OBJECT_DELETE", "overwrittenByGeneration": "17"}, RESOURCE
    )

    assert finalized is not None
    assert deleted is not None
    assert finalized.data["overwrote_generation"] == "15"
    assert deleted.data["overwritten_by_generation"] == "17"


def test_without_any_time_the_generation_tells_it() -> None:
    event = object_event({"bucket": "b", "name": "n", "generation": "1587627537231057"}, Kind.FINALIZE)

    assert event.time == datetime(2020, 4, 23, 7, 38, 57, 231_057, tzinfo=UTC)


@pytest.mark.parametrize(
    "broken",
    [
        {"generation": None},
        {"generation": "x"},
        {"generation": -1},
        {"generation": True},
        {"generation": "9" * 5000},
        {"bucket": ""},
        {"bucket": "a/b"},
        {"name": 7},
    ],
)
def test_what_names_no_object_is_no_event(broken: dict[str, object]) -> None:
    with pytest.raises(NotAnObject):
        object_event(RESOURCE | broken, Kind.FINALIZE)

    assert from_body(RESOURCE | broken) is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"kind": "storage#bucket"},
        {"message": "hello"},
        {"message": {"data": "aGk=", "attributes": {"a": "b"}}},
        {"message": {"data": "%%%", "attributes": {"eventType": "OBJECT_FINALIZE"}}},
        {"specversion": "1.0", "type": "com.example.thing", "source": "/here", "data": RESOURCE},
        {**RESOURCE, "timeDeleted": "2024-01-01T00:00:00Z"},
    ],
)
def test_other_bodies_are_no_news_of_an_object(body: object) -> None:
    assert from_body(body) is None


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "ü/日本 #1:delete"])
def test_strange_names_can_be_stored(name: str) -> None:
    event = object_event(RESOURCE | {"name": name}, Kind.FINALIZE)

    assert "\0" not in event.key
    assert event.key.encode()
    assert event.data["name"] == event.subject


def test_a_directory_marker_is_known_as_one() -> None:
    marker = object_event(RESOURCE | {"name": "green/", "size": "0"}, Kind.FINALIZE)
    named_like_one = object_event(RESOURCE | {"name": "green/", "size": "3"}, Kind.FINALIZE)

    assert is_directory_marker(marker)
    assert not is_directory_marker(named_like_one)
    assert not is_directory_marker(listed())


@needs_payloads
def test_googles_own_examples() -> None:
    simple = json.loads((GOOGLE / "binary/storage/StorageObjectData-simple.json").read_text())
    complex_ = json.loads((GOOGLE / "binary/storage/StorageObjectData-complex.json").read_text())
    workflows = json.loads((GOOGLE / "structured/storage/StorageObjectDataWorkflows.json").read_text())
    source = "//storage.googleapis.com/projects/_/buckets/sample-bucket"

    texts = from_cloudevent(FINALIZED, source, "objects/folder/Test.cs", simple)
    numbers = from_cloudevent(FINALIZED, source, "objects/MyFile", complex_)
    whole = from_body(workflows)

    assert texts is not None
    assert texts.key == "gcs:sample-bucket/folder/Test.cs#1587627537231057:finalize"
    assert texts.data["size"] == 352
    assert numbers is not None
    assert whole is not None
    assert numbers.key == whole.key == "gcs:sample-bucket/MyFile#96883251:finalize"
    assert (numbers.data["size"], numbers.data["generation"]) == (0, "96883251")


@needs_payloads
@pytest.mark.parametrize("name", ["MessagePublishedData-complex", "MessagePublishedData-simple"])
def test_googles_other_messages_are_no_objects(name: str) -> None:
    assert from_body(json.loads((GOOGLE / f"binary/pubsub/{name}.json").read_text())) is None
