"""What is peculiar to the `gcs_object` sensor; the contract of all sensors is in test_conformance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensors import gcs as sensor_module
from sensors.base import Existing, ExistingRule, OptionsError, Page, SensorError, TickContext
from sensors.event import Event
from sensors.gcs import GcsObjectSensor
from sensors.gcs_news import Kind, from_notification, object_event
from tests.parts.gcs import GcsEmulator, News, running_gcs
from tests.parts.pubsub import PROJECT, PubSubEmulator
from tests.parts.waiting import wait_until
from tests.sensors.answering import FORBIDDEN, answering

NOW = datetime.now(UTC)
AN_HOUR = timedelta(hours=1)
ALL = Existing(ExistingRule.TRIGGER)


@dataclass
class Bucket:
    """A bucket, and a trigger that watches it."""

    server: GcsEmulator
    root: Path
    name: str
    cursor: str | None = None
    known: set[str] = field(default_factory=set)

    def put(self, *names: str, content: bytes = b"1", stamp: datetime | None = None) -> dict[str, Any]:
        for name in names:
            made = self.server.put(self.name, name, content, stamp=stamp)
        return made

    def sensor(self, **options: Any) -> GcsObjectSensor:
        given = {"bucket": self.name, "endpoint": self.server.endpoint, **options}
        return GcsObjectSensor.configure(given)

    def pages(self, existing: Existing = ALL, **options: Any) -> list[Page]:
        context = TickContext(
            source="gcs_object:t/t", now=datetime.now(UTC), root=self.root, existing=existing
        )
        return list(self.sensor(**options).tick(self.cursor, context))

    def take(self, pages: Sequence[Page]) -> list[Event]:
        """Commit pages; return the events that were not known."""
        found = []
        for page in pages:
            self.cursor = page.cursor
            found += [event for event in page.events if event.key not in self.known]
            self.known |= {event.key for event in (*page.events, *page.baseline)}
        return found

    def tick(self, **options: Any) -> list[str]:
        """Tick and return what the new events are about, in the order of names."""
        return sorted(str(event.subject) for event in self.take(self.pages(**options)))


@pytest.fixture
def bucket(gcs: GcsEmulator, tmp_path: Path) -> Bucket:
    return Bucket(gcs, tmp_path, gcs.make_bucket())


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["a.csv", "deep/er/c.csv", "yellow/2024/b.parquet", "yellow/a.csv"]),
        ({"prefix": "yellow/"}, ["yellow/2024/b.parquet", "yellow/a.csv"]),
        ({"pattern": "*.csv"}, ["a.csv", "deep/er/c.csv", "yellow/a.csv"]),
        ({"pattern": "yellow/*"}, ["yellow/a.csv"]),
        ({"pattern": "yellow/**"}, ["yellow/2024/b.parquet", "yellow/a.csv"]),
        ({"pattern": "**/[bc].*", "prefix": "deep/"}, ["deep/er/c.csv"]),
        ({"done_marker": "a.*"}, ["a.csv", "yellow/a.csv"]),
    ],
)
def test_prefix_and_pattern_choose_the_objects(
    bucket: Bucket, options: dict[str, Any], found: list[str]
) -> None:
    bucket.put("a.csv", "yellow/a.csv", "yellow/2024/b.parquet", "deep/er/c.csv")

    assert bucket.tick(**options) == found


def test_an_event_is_the_one_that_other_roads_bring(bucket: Bucket) -> None:
    resource = bucket.server.put(bucket.name, "a/b.csv", b"123", metadata={"team": "taxi"})

    (event,) = bucket.take(bucket.pages())

    assert event == object_event(resource, Kind.FINALIZE)
    assert event.data["size"] == 3
    assert event.data["metadata"] == {"team": "taxi"}


def test_directory_markers_are_no_objects(bucket: Bucket) -> None:
    bucket.put("folder_/", content=b"")  # the emulator keeps it as a file of that name
    bucket.put("empty.csv", content=b"")

    assert bucket.tick(pattern="**") == ["empty.csv"]


def test_small_objects_are_left_alone_until_they_have_grown(bucket: Bucket) -> None:
    bucket.put("a.csv", content=b"")

    before = bucket.tick(min_size=2)
    bucket.put("a.csv", content=b"22")

    assert before == []
    assert bucket.tick(min_size=2) == ["a.csv"]


def test_a_done_marker_names_its_folder(bucket: Bucket) -> None:
    bucket.put("2024/01/part-1", "2024/01/part-2", "2024/02/part-1")
    bucket.put("2024/01/_SUCCESS", content=b"")

    (event,) = bucket.take(bucket.pages(done_marker="_SUCCESS"))

    assert event.data["folder"] == "2024/01"


def test_every_generation_is_an_event_of_its_own(bucket: Bucket) -> None:
    first = bucket.put("a.csv")
    bucket.tick()
    second = bucket.put("a.csv")

    (event,) = bucket.take(bucket.pages())

    assert event.data["generation"] == second["generation"] != first["generation"]


def test_a_listing_of_several_answers_is_read_to_its_end(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_module, "LISTED_AT_ONCE", 3)
    names = [f"{number}.csv" for number in range(10)]
    bucket.put(*names)

    assert bucket.tick() == names


def test_an_unchanged_prefix_of_thousands_says_nothing_the_second_time(bucket: Bucket) -> None:
    stamp = NOW - AN_HOUR
    bucket.server.put_many(bucket.name, [f"{number:05}.csv" for number in range(5_000)])

    first = bucket.tick()
    pages = bucket.pages()
    bucket.put("02500b.csv", stamp=stamp)
    after = bucket.pages()

    assert len(first) == 5_000
    assert pages == []
    assert len(str(bucket.cursor)) < 1_000
    assert sum(len(page.events) for page in after) < 4_096  # a chunk, not the prefix
    assert [event.subject for event in bucket.take(after)] == ["02500b.csv"]


def test_a_crash_between_pages_loses_nothing(bucket: Bucket) -> None:
    names = [f"{number:05}.csv" for number in range(1_200)]
    bucket.server.put_many(bucket.name, names)
    pages = bucket.pages()

    found = bucket.take(pages[:1])
    bucket.put("late.csv", stamp=NOW - 48 * AN_HOUR)
    found += bucket.take(bucket.pages()[:2])
    bucket.put("00000.csv")  # an overwrite in a chunk that is done
    found += bucket.take(bucket.pages())

    assert len(pages) > 2
    assert {event.subject for event in found} == {*names, "late.csv"}
    assert len(found) == 1_202


def test_first_sight_ends_with_the_first_listing(bucket: Bucket) -> None:
    baseline = Existing()
    bucket.put("old.csv", stamp=NOW - AN_HOUR)
    bucket.tick(existing=baseline)

    bucket.put("old.csv", stamp=NOW - AN_HOUR)

    assert bucket.tick(existing=baseline) == ["old.csv"]


def test_a_changed_pattern_finds_what_it_did_not_fit_before(bucket: Bucket) -> None:
    bucket.put("a.csv", "b.parquet")
    bucket.tick(pattern="*.csv")

    assert bucket.tick(pattern="*.parquet") == ["b.parquet"]


def test_deletions_are_events_where_they_are_asked_for(bucket: Bucket) -> None:
    generation = bucket.put("gone.csv")["generation"]
    bucket.put("overwritten.csv", "stays.csv")
    bucket.tick(deletes=True)

    bucket.server.delete(bucket.name, "gone.csv")
    bucket.put("overwritten.csv")
    events = bucket.take(bucket.pages(deletes=True))

    assert sorted((event.type, event.subject) for event in events) == [
        ("object.deleted", "gone.csv"),
        ("object.finalized", "overwritten.csv"),
    ]
    assert f"gcs:{bucket.name}/gone.csv#{generation}:delete" in {event.key for event in events}
    assert bucket.tick(deletes=True) == []


def test_a_narrower_prefix_makes_nothing_deleted(bucket: Bucket) -> None:
    bucket.put("a/1.csv", "b/1.csv")
    bucket.tick(deletes=True)

    assert bucket.tick(deletes=True, prefix="a/") == []


def test_deletions_among_too_many_objects_are_an_error_after_all_is_handed_over(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_module, "MAX_PRESENT", 2)
    bucket.put("1.csv", "2.csv", "3.csv")
    context = TickContext(source="gcs_object:t/t", now=NOW, root=bucket.root, existing=ALL)

    ticking = bucket.sensor(deletes=True).tick(None, context)

    assert len(next(ticking).events) == 3
    with pytest.raises(SensorError, match="narrow the prefix"):
        next(ticking)
    assert bucket.tick(deletes=True, notifications="expected") == ["1.csv", "2.csv", "3.csv"]


def finalized(**changes: Any) -> Event:
    resource = {"bucket": "lake", "name": "yellow/a.csv", "generation": 7, "size": 10, **changes}
    return object_event(resource, Kind.FINALIZE)


def deleted(overwritten_by: str | None = None) -> Event:
    resource = {"bucket": "lake", "name": "yellow/a.csv", "generation": 7, "size": "10"}
    return object_event(resource, Kind.DELETE, overwritten_by=overwritten_by)


def without_payload() -> Event | None:
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "lake",
        "objectId": "yellow/a.csv",
        "objectGeneration": "7",
    }
    return from_notification(attributes, b"")


@pytest.mark.parametrize(
    ("event", "options", "is_covered"),
    [
        (finalized(), {}, True),
        (finalized(), {"bucket": "other"}, False),
        (finalized(), {"prefix": "yellow/", "pattern": "*.csv"}, True),
        (finalized(), {"prefix": "green/"}, False),
        (finalized(), {"pattern": "*.parquet"}, False),
        (finalized(), {"pattern": "yellow/*.csv"}, True),
        (finalized(), {"min_size": 10}, True),
        (finalized(), {"min_size": 11}, False),
        (finalized(), {"done_marker": "_SUCCESS"}, False),
        (finalized(name="yellow/_SUCCESS", size=0), {"done_marker": "_SUCCESS"}, True),
        (finalized(name="yellow/", size=0), {}, False),
        (without_payload(), {}, False),  # the listing brings what the news lacks
        (deleted(), {}, False),
        (deleted(), {"deletes": True}, True),
        (deleted(overwritten_by="8"), {"deletes": True}, False),
        (object_event({"bucket": "lake", "name": "yellow/a.csv", "generation": 7}, Kind.ARCHIVE), {}, False),
        (object_event({"bucket": "lake", "name": "yellow/a.csv", "generation": 7}, Kind.UPDATE), {}, False),
        (replace(finalized(), source="webhook:taxi/lake"), {}, False),
        (Event(source="gcs:lake", key="mine", type="object.finalized", time=NOW), {}, False),
    ],
)
def test_covers_the_news_that_a_listing_would_have_found(
    event: Event, options: Mapping[str, Any], is_covered: bool
) -> None:
    assert GcsObjectSensor.configure({"bucket": "lake", **options}).covers(event) is is_covered


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(bucket: Bucket) -> None:
    with pytest.raises(SensorError, match=r"bucket elsewhere is not there .*buckets create gs://elsewhere"):
        bucket.pages(bucket="elsewhere")


def test_a_stop_ends_the_tick_where_it_is(bucket: Bucket) -> None:
    context = TickContext(source="t", now=NOW, root=bucket.root, is_stopping=lambda: True)

    with pytest.raises(SensorError, match="the engine is stopping"):
        list(bucket.sensor().tick(None, context))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bucket": "gs://lake"}, "'bucket'"),
        ({"min_size": -1}, "'min_size'"),
        ({"done_marker": "a/b"}, "'done_marker'"),
        ({"done_marker": "_SUCCESS", "pattern": "*"}, "takes the place of pattern"),
        ({"notifications": "maybe"}, "'notifications'"),
        ({"endpoint": "ftp://here"}, "'endpoint'"),
    ],
)
def test_wrong_options_are_named(options: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        GcsObjectSensor.configure({"bucket": "lake", **options})


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ({"GOOGLE_SERVICE_ACC_KEY_FILEPATH": "no.json"}, "key file no.json cannot be read"),
        ({"GOOGLE_SERVICE_ACC_KEY": {"private_key": "hush"}}, "GOOGLE_SERVICE_ACC_KEY is no key"),
    ],
)
def test_wrong_credentials_are_named_and_not_shown(
    tmp_path: Path, profile: Mapping[str, Any], sentence: str
) -> None:
    sensor = GcsObjectSensor.configure({"bucket": "lake", "profile": "google"})
    lookup: Callable[[str], Mapping[str, Any]] = {"google": profile}.__getitem__
    context = TickContext(source="t", now=NOW, root=tmp_path, profile=lookup)

    with pytest.raises(SensorError, match=sentence) as caught:
        list(sensor.tick(None, context))

    assert "hush" not in str(caught.value)


def test_a_bucket_that_may_not_be_read_is_named_with_the_role_it_wants(tmp_path: Path) -> None:
    with answering(403, FORBIDDEN) as endpoint:
        sensor = GcsObjectSensor.configure({"bucket": "lake", "endpoint": endpoint})
        context = TickContext(source="t", now=NOW, root=tmp_path)

        with pytest.raises(SensorError, match=r"bucket lake may not be read .*roles/storage.objectViewer"):
            list(sensor.tick(None, context))


def test_a_notification_of_the_emulator_is_the_event_that_the_listing_finds(
    pubsub: PubSubEmulator, tmp_path: Path
) -> None:
    topic = pubsub.make_topic()
    subscription = pubsub.make_subscription(topic)
    with running_gcs(News(pubsub.host, PROJECT, topic.rpartition("/")[2])) as server:
        bucket = Bucket(server, tmp_path, server.make_bucket())
        bucket.put("yellow/a.csv")
        received = wait_until(lambda: pubsub.pull(subscription), what="the notification")
        (listed,) = bucket.take(bucket.pages())

    told = from_notification(dict(received[0].message.attributes), received[0].message.data)

    assert told is not None
    assert (told.source, told.key, told.type) == (listed.source, listed.key, listed.type)
    assert told.data == {**listed.data, "metageneration": None}  # the emulator's news lacks it
