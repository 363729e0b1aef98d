"""One object, told of by listing, Pub/Sub, Eventarc and webhook in all 24 orders, to two triggers.

All orders go side by side, each over an object of its own: in step k each object is told of by the road that
is k-th in its order. A listing or a pull takes all objects of its prefix or subscription, so there is one for
each step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sensors.gcs_news import Kind, object_event
from service.store import events
from service.store.sightings import sightings_of
from service.store.values import Outcome, StoredEvent
from service.watching.watcher import Watcher
from tests.parts.gcs import GcsEmulator
from tests.parts.hooks import SECRET, Hooks, running_hooks, signed_headers
from tests.parts.pubsub import PROJECT, PubSubEmulator
from tests.parts.waiting import wait_until

VERIFY = {"scheme": "standard_webhooks", "secret": SECRET}
ROADS = ("listing", "pubsub", "eventarc", "webhook")
ORDERS = list(permutations(ROADS))
STEPS = range(len(ROADS))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Roads:
    """A service that hears of a bucket by four roads."""

    hooks: Hooks
    watcher: Watcher
    server: GcsEmulator
    messages: PubSubEmulator
    bucket: str
    topics: Sequence[str]
    resources: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # newest, by name

    def put(self, name: str, **others: Any) -> None:
        self.resources[name] = self.server.put(self.bucket, name, **others)

    def tell(self, road: str, names: Sequence[str], step: int) -> None:
        """Let the service hear of these objects by one road."""
        match road:
            case "listing":
                self.tick(f"all_{step}")
                self.tick(f"csv_{step}")
            case "pubsub":
                self.messages.publish(self.topics[step], [self._notification(name) for name in names])
                self.tick(f"news_{step}")
            case "eventarc":
                for name in names:
                    self._post("/cloudevents", self.resources[name], self._eventarc(name))
            case "webhook":
                for name in names:
                    self._post("/webhooks/etl/told", self.resources[name], {})

    def tick(self, trigger: str) -> None:
        compiled = self.hooks.dispatcher.triggers("demo")["etl", trigger]
        self.hooks.clock.now = datetime.now(UTC)
        assert self.watcher.tick(compiled, self.hooks.clock.now) is not None

    def shares(self, step: int) -> bool:
        """Tell whether what one of the triggers lists concerns the other, which has had its first sight."""
        compiled = self.hooks.dispatcher.triggers("demo")["etl", f"all_{step}"]
        event = object_event(self.resources[f"{step}/old.csv"], Kind.FINALIZE)
        return len(self.hooks.dispatcher.plan("demo", event, [compiled]).matches) == 2

    def events(self) -> dict[str, list[StoredEvent]]:
        """Return the events of the bucket by the names of their objects, oldest first."""
        found: dict[str, list[StoredEvent]] = {}
        with self.hooks.runtime.database.read() as connection:
            for one in reversed(events.listing(connection, source=f"gcs:{self.bucket}", limit=1000)):
                whole = events.get(connection, one.id)
                assert whole is not None
                found.setdefault(str(whole.subject), []).append(whole)
        return found

    def sightings(self, event: StoredEvent) -> int:
        with self.hooks.runtime.database.read() as connection:
            return sightings_of(connection, [event.id])[event.id]

    def _notification(self, name: str) -> Mapping[str, Any]:
        resource = self.resources[name]
        attributes = {
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "JSON_API_V1",
            "bucketId": self.bucket,
            "objectId": name,
            "objectGeneration": str(resource["generation"]),
            "notificationConfig": f"projects/_/buckets/{self.bucket}/notificationConfigs/1",
        }
        return {"data": json.dumps(resource).encode(), "attributes": attributes}

    def _eventarc(self, name: str) -> Mapping[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": f"{self.resources[name]['generation']}",
            "ce-type": "google.cloud.storage.object.v1.finalized",
            "ce-source": f"//storage.googleapis.com/projects/_/buckets/{self.bucket}",
            "ce-subject": quote(f"objects/{name}"),
        }

    def _post(self, path: str, resource: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        body = json.dumps(resource).encode()
        signed = signed_headers(body, f"msg_{path[1]}_{resource['generation']}", self.hooks.clock.now)
        answer = self.hooks.post(body, path=path, headers={**headers, **signed})
        assert answer.status_code in (200, 202), answer.text


@contextmanager
def hearing(root: Path, gcs: GcsEmulator, pubsub: PubSubEmulator) -> Iterator[Roads]:
    bucket = gcs.make_bucket()
    topics = [pubsub.make_topic() for _ in STEPS]
    told: list[dict[str, Any]] = [
        {"name": "told", "type": "webhook", "verify": VERIFY, "filter": "{{ false }}"}
    ]
    for step in STEPS:
        where = {"bucket": bucket, "endpoint": gcs.endpoint, "prefix": f"{step}/"}
        subscription = {
            "project": PROJECT,
            "subscription": pubsub.make_subscription(topics[step]),
            "endpoint": f"http://{pubsub.host}",
        }
        told += [
            {"name": f"all_{step}", "type": "sensor", "sensor": "gcs_object", "options": where},
            {
                "name": f"csv_{step}",
                "type": "sensor",
                "sensor": "gcs_object",
                "options": {**where, "pattern": "*.csv"},
            },
            {
                "name": f"news_{step}",
                "type": "sensor",
                "sensor": "pubsub_message",
                "options": subscription,
                "every": "1s",  # so long one tick listens
                "filter": "{{ false }}",
            },
        ]
    chosen = {"cloudevents": {"verify": VERIFY}}
    with running_hooks(root, told, settings_of_project=chosen) as hooks:
        watcher = Watcher(hooks.runtime, hooks.dispatcher)
        watcher.start()
        try:
            yield Roads(hooks, watcher, gcs, pubsub, bucket, topics)
        finally:
            watcher.close()


@pytest.fixture(scope="module")
def roads(
    tmp_path_factory: pytest.TempPathFactory, gcs: GcsEmulator, pubsub: PubSubEmulator
) -> Iterator[Roads]:
    with hearing(tmp_path_factory.mktemp("roads"), gcs, pubsub) as made:
        yield made


def name_of(order: Sequence[str]) -> str:
    """Name the object of an order; it lies where the listing of its step looks."""
    return f"{order.index('listing')}/{'-'.join(order)}.csv"


def test_every_order_makes_one_event_with_four_sightings_and_one_run_for_each_trigger(roads: Roads) -> None:
    _first_sight(roads)
    for order in ORDERS:
        roads.put(name_of(order))

    _tell_all(roads)

    found = roads.events()
    for order in ORDERS:
        (event,) = found[name_of(order)]
        _assert_one_run_each(roads, event, order.index("listing"))

    _what_was_there_starts_nothing(roads)
    _overwriting_is_a_second_event(roads)
    _a_late_object_is_found(roads)


def _first_sight(roads: Roads) -> None:
    for step in STEPS:
        roads.put(f"{step}/old.csv")
        roads.tell("listing", [], step)
    wait_until(
        lambda: all(roads.shares(step) for step in STEPS), what="each listing counts for both triggers"
    )


def _tell_all(roads: Roads) -> None:
    for step in STEPS:
        for road in ROADS:
            names = [name_of(order) for order in ORDERS if order[step] == road]
            assert len(names) == 6
            roads.tell(road, names, step)


def _assert_one_run_each(roads: Roads, event: StoredEvent, step: int) -> None:
    ran = [match for match in event.matches if match.outcome is Outcome.RAN]
    assert sorted(match.trigger for match in ran) == [f"all_{step}", f"csv_{step}"], event.subject
    assert len({match.run_id for match in ran}) == len(event.run_ids) == 2
    assert event.outcome is Outcome.RAN
    assert roads.sightings(event) == len(ROADS), [one.road for one in event.deliveries]


def _what_was_there_starts_nothing(roads: Roads) -> None:
    for road in ROADS:
        roads.tell(road, ["0/old.csv"], 0)

    (event,) = roads.events()["0/old.csv"]
    outcomes = {match.trigger: match.outcome for match in event.matches}
    assert (outcomes["all_0"], outcomes["csv_0"]) == (Outcome.BASELINE, Outcome.BASELINE)
    assert event.run_ids == ()
    assert len({one.road for one in event.deliveries}) == len(ROADS)


def _overwriting_is_a_second_event(roads: Roads) -> None:
    name = name_of(ORDERS[0])
    roads.put(name, content=b"other")
    for road in reversed(ROADS):
        roads.tell(road, [name], 0)

    first, second = roads.events()[name]
    assert first.key != second.key
    _assert_one_run_each(roads, second, 0)


def _a_late_object_is_found(roads: Roads) -> None:
    roads.put("0/late.csv", stamp=LONG_AGO)
    roads.tell("listing", [], 0)

    (event,) = roads.events()["0/late.csv"]
    assert event.time.year == LONG_AGO.year
    assert len(event.run_ids) == 2
