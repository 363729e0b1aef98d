"""What is peculiar to the pubsub_message sensor, against Google's emulator."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensors import pubsub as module
from sensors.base import PAGE_SIZE, OptionsError, Page, SensorError, TickContext
from sensors.event import Event
from sensors.pubsub import PubSubSensor
from sensors.pubsub_messages import BodyFormat, Message, event_of
from tests.parts.pubsub import PROJECT, PubSubEmulator, running_pubsub
from tests.parts.waiting import wait_until


@dataclass
class Line:
    """A topic and one subscription, ticked as the engine does."""

    emulator: PubSubEmulator
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.topic = self.emulator.make_topic()
        self.subscription = self.emulator.make_subscription(
            self.topic, ack_deadline_seconds=10, **self.settings
        )

    @property
    def source(self) -> str:
        return f"pubsub:projects/{PROJECT}/subscriptions/{self.subscription}"

    def publish(self, *messages: Any) -> list[str]:
        return self.emulator.publish(self.topic, messages)

    def pages(self, listen: float = 0.0, stopping: threading.Event | None = None) -> Iterator[Page]:
        sensor = PubSubSensor.configure(
            {
                "project": PROJECT,
                "subscription": self.subscription,
                "endpoint": f"http://{self.emulator.host}",
                **self.options,
            }
        )
        context = TickContext(
            source="pubsub_message:taxi/orders",
            now=datetime.now(UTC),
            root=Path(),
            listen_seconds=listen,
            is_stopping=(stopping or threading.Event()).is_set,
        )
        return sensor.tick(None, context)

    def tick(self) -> list[Event]:
        """Commit everything that comes within a moment."""
        return [event for page in self.pages() for event in page.events]

    def one(self) -> Event:
        """Commit the next message that comes."""
        return self.some(1)[0]

    def some(self, count: int) -> list[Event]:
        """Commit pages until `count` messages have come."""
        found: list[Event] = []
        stopping = threading.Event()
        for page in self.pages(listen=30, stopping=stopping):
            found += page.events
            if len(found) >= count:
                stopping.set()
        return found

    def unacked(self) -> list[str]:
        return self.emulator.unacked(self.subscription)


@pytest.fixture
def line(pubsub: PubSubEmulator) -> Line:
    return Line(pubsub)


def test_a_message_becomes_an_event_and_is_acked_when_its_page_was_taken(line: Line) -> None:
    (message_id,) = line.publish({"data": b'{"order": 7}', "attributes": {"Kind": "new"}})

    event = line.one()

    assert (event.source, event.key, event.type) == (line.source, message_id, "pubsub.message")
    assert event.data == {"order": 7}
    assert event.raw == b'{"order": 7}'
    assert event.headers["kind"] == "new"
    assert event.headers["pubsub-message-id"] == message_id
    assert event.headers["pubsub-subscription"] == line.source.removeprefix("pubsub:")
    assert event.headers["pubsub-publish-time"] == event.time.isoformat().replace("+00:00", "Z")
    assert event.headers["pubsub-format"] == "json"
    assert line.unacked() == []


def test_a_page_that_is_not_committed_is_given_back_at_once(line: Line) -> None:
    ids = line.publish(b"1", b"2", b"3")

    with closing(line.pages(listen=30)) as pages:  # type: ignore[type-var]
        seen = len(next(iter(pages)).events)

    assert seen
    assert {event.key for event in line.some(3)} == set(ids)  # not after the deadline: at once
    assert line.unacked() == []


def test_what_nobody_took_is_given_back_by_an_error_of_the_consumer(line: Line) -> None:
    line.publish(b"1")
    pages = line.pages(listen=30)
    next(pages)

    with pytest.raises(RuntimeError, match="the store is away"):
        pages.throw(RuntimeError("the store is away"))  # type: ignore[attr-defined]

    assert line.one().data == 1


def test_pages_are_bounded_and_every_message_comes_once(line: Line) -> None:
    line.options = {"max_messages": 150}  # the emulator does not keep to it, the sensor does
    ids = line.publish(*[b"%d" % number for number in range(PAGE_SIZE + 200)])
    sizes, keys, stopping = [], [], threading.Event()

    for page in line.pages(listen=30, stopping=stopping):
        sizes.append(len(page.events))
        keys += [event.key for event in page.events]
        if len(keys) >= len(ids):
            stopping.set()

    assert max(sizes) <= 250  # what is held, and one answer of the emulator beyond it
    assert sorted(keys) == sorted(ids)
    assert line.unacked() == []


def test_a_page_is_bounded_by_its_bytes_too(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 1000)
    line.publish(*[b"x" * 600] * 3, b"y" * 2000)

    sizes = [len(page.events) for page in line.pages(listen=1)]

    assert sum(sizes) == 4
    assert max(sizes) == 1


def test_messages_of_one_ordering_key_come_in_their_order(pubsub: PubSubEmulator) -> None:
    line = Line(pubsub, settings={"enable_message_ordering": True})
    line.publish(*[{"data": b"%d" % number, "ordering_key": f"k{number % 3}"} for number in range(300)])

    events = line.some(300)

    for key in ("k0", "k1", "k2"):
        numbers = [event.data for event in events if event.headers["pubsub-ordering-key"] == key]
        assert numbers == sorted(numbers)
        assert len(numbers) == 100


def test_exactly_once_subscription_is_acked_for_good(pubsub: PubSubEmulator) -> None:
    line = Line(pubsub, settings={"enable_exactly_once_delivery": True})
    ids = line.publish(b"1", b"2")

    assert {event.key for event in line.some(2)} == set(ids)
    assert line.unacked() == []


def test_delivery_attempts_are_told_where_there_is_a_dead_letter_topic(pubsub: PubSubEmulator) -> None:
    dead = pubsub.make_topic()
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    line = Line(pubsub, settings={"dead_letter_policy": policy})
    line.publish(b"1")
    with closing(line.pages(listen=30)) as pages:  # type: ignore[type-var]
        next(iter(pages))

    assert line.one().headers["pubsub-delivery-attempt"] == "2"


def test_stopping_ends_a_long_tick(line: Line) -> None:
    stopping, ended = threading.Event(), threading.Event()

    def listen() -> None:
        list(line.pages(listen=600, stopping=stopping))
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    line.publish(b"1")
    stopping.set()

    assert ended.wait(5)


def test_two_ticks_at_once_share_the_messages(line: Line) -> None:
    ids = line.publish(*[b"%d" % number for number in range(400)])
    found: list[str] = []
    stopping = threading.Event()

    def listen() -> None:
        for page in line.pages(listen=30, stopping=stopping):
            found.extend(event.key for event in page.events)

    threads = [threading.Thread(target=listen, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(found) >= 400, what="all messages")
    stopping.set()
    for thread in threads:
        thread.join(10)

    assert sorted(found) == sorted(ids)


def test_a_silent_stream_is_opened_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)
    opened: list[str] = []
    real = module.Pull

    def opening(*arguments: Any) -> Any:
        opened.append("a stream")
        return real(*arguments)

    monkeypatch.setattr(module, "Pull", opening)
    stopping = threading.Event()
    pages = line.pages(listen=30, stopping=stopping)

    def publish_later() -> None:
        wait_until(lambda: len(opened) >= 3, what="a third stream")
        line.publish(b"at last")

    threading.Thread(target=publish_later, daemon=True).start()
    (event,) = next(pages).events
    stopping.set()

    assert event.data == "at last"
    assert list(pages) == []


def test_emulator_that_restarts_does_not_leave_the_tick_in_silence() -> None:
    with running_pubsub() as emulator:
        line = Line(emulator)
        pages = line.pages(listen=60)
        line.publish(b"before")
        next(pages)

        emulator.restart()

        with pytest.raises(SensorError, match=f"subscription projects/{PROJECT}/subscriptions/"):
            list(pages)


def test_a_subscription_that_is_not_there_is_named_with_what_to_do(line: Line) -> None:
    line.emulator.delete_subscription(line.subscription)

    with pytest.raises(SensorError, match=f"{line.subscription} is not there .*subscriptions create"):
        line.tick()


def test_an_address_where_nobody_listens_is_a_sensor_error(line: Line) -> None:
    line.options = {"endpoint": "http://127.0.0.1:9"}

    with pytest.raises(SensorError, match="cannot be"):
        line.tick()


def test_options_that_are_wrong_are_named() -> None:
    with pytest.raises(OptionsError) as caught:
        PubSubSensor.configure({"subscription": "a/b", "ack_deadline": 5, "colour": "red"})

    text = str(caught.value)
    assert all(name in text for name in ("project", "subscription", "ack_deadline", "colour"))


@pytest.mark.parametrize(
    ("key", "expected"),
    [("order-id", "order-id=a7"), ("$.order.lines[0].id", "$.order.lines[0].id=3"), ("$.nowhere", None)],
)
def test_repeats_of_the_publisher_have_one_key(line: Line, key: str, expected: str | None) -> None:
    line.options = {"key": key}
    message = {"data": b'{"order": {"lines": [{"id": 3}]}}', "attributes": {"order-id": "a7"}}
    ids = line.publish(message, message)

    keys = {event.key for event in line.some(2)}

    assert keys == ({expected} if expected else set(ids))


def test_a_path_that_cannot_be_read_is_an_error_of_the_options() -> None:
    with pytest.raises(OptionsError, match="is no path"):
        PubSubSensor.configure({"project": "p", "subscription": "orders", "key": "$.a["})


@pytest.mark.parametrize(
    ("form", "body", "data", "is_readable"),
    [
        ("auto", b'{"a": 1}', {"a": 1}, True),
        ("auto", b"12", 12, True),
        ("auto", b"[INFO] a line of a log", None, False),
        ("text", b"[INFO] a line of a log", "[INFO] a line of a log", True),
        ("text", b"\xff", None, False),
        ("json", b"words", None, False),
        ("auto", b"words", "words", True),
        ("auto", b"\x08\x96\x01\x00", "CJYBAA==", True),
        ("bytes", b'{"a": 1}', "eyJhIjogMX0=", True),
        ("auto", b'{"a": NaN}', None, False),
        ("auto", b"[" * 5000, None, False),
    ],
)
def test_bodies_are_read_as_the_trigger_says(form: str, body: bytes, data: Any, is_readable: bool) -> None:
    message = Message("1", f"projects/{PROJECT}/subscriptions/s", datetime.now(UTC), body)

    event = event_of(message, BodyFormat(form))

    assert event.data == data
    assert (event.quarantine is None) is is_readable
    assert (event.key, event.raw) == ("1", body)


def test_attribute_that_no_store_holds_is_a_reason_for_the_quarantine() -> None:
    message = Message("1", "s", datetime.now(UTC), b"{}", {"a": "x\x00", "b": "y"})

    event = event_of(message)

    assert event.quarantine == "the attribute 'a' holds the character NUL"
    assert (event.headers["a"], event.headers["b"]) == ("x\\x00", "y")


def test_notification_of_an_object_is_that_objects_event(line: Line) -> None:
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "lake",
        "objectId": "yellow/a.parquet",
        "objectGeneration": "17",
    }
    line.publish({"data": b'{"size": "5"}', "attributes": attributes})

    event = line.one()

    assert (event.source, event.key) == ("gcs:lake", "gcs:lake/yellow/a.parquet#17:finalize")
    assert event.data["size"] == 5
    assert event.headers["pubsub-subscription"] == line.source.removeprefix("pubsub:")


@given(body=st.binary(max_size=200), name=st.text(max_size=20), value=st.text(max_size=20))
@example(body=b'"\\ud800"', name="\ud800", value="\x00")
def test_nothing_in_a_message_makes_it_raise(body: bytes, name: str, value: str) -> None:
    event = event_of(Message("1", "s", datetime.now(UTC), body, {name: value}), key="$.a.b")

    stored = json.dumps({"data": event.data, "headers": dict(event.headers)}, ensure_ascii=False)
    assert "\x00" not in stored
    stored.encode()
