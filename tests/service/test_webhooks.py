"""A delivery at a door, from its bytes to its rows, on both stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from service.store.ids import new_id
from service.store.values import Outcome, Verdict
from tests.parts.hooks import SECRET, Hooks, running_hooks, signed_headers
from tests.parts.postgres import PostgresServer

HOOKS: list[dict[str, Any]] = [
    {"name": "hook", "type": "webhook", "verify": "none"},
    {"name": "signed", "type": "webhook", "verify": {"scheme": "standard_webhooks", "secret": SECRET}},
    {"name": "guarded", "type": "webhook"},
    {
        "name": "mapped",
        "type": "webhook",
        "path": "/webhooks/shop",
        "verify": "none",
        "key": "{{ event.data.id }}",
        "filter": "{{ event.data.size > 0 }}",
        "variables": {
            "object": "{{ event.data.name }}",
            "size": "{{ event.data.size }}",
            "label": "x-{{ event.type }}",
        },
        "execution_date": "{{ event.data.at }}",
    },
    {"name": "by_body", "type": "webhook", "verify": "none", "body_key": True},
    {"name": "off", "type": "webhook", "verify": "none", "enabled": False},
    {"name": "small", "type": "webhook", "verify": "none", "max_body": 100},
]


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def hooks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    """Shared by the tests of this file, which therefore never ask what else is in the store."""
    url = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database())
    with running_hooks(tmp_path_factory.mktemp("hooks") / "demo", HOOKS, database_url=url) as made:
        yield made


@pytest.fixture
def key() -> str:
    """An idempotency key that no other test uses."""
    return new_id()


def test_delivery_becomes_an_event_and_a_run(hooks: Hooks) -> None:
    answer = hooks.accept(
        {"hello": 1}, headers={"X-Shop": "7", "Authorization": "Bearer x", "X-Api-Key": "k"}
    )

    assert answer == {
        "event_id": answer["event_id"],
        "outcome": "ran",
        "run_ids": answer["run_ids"],
        "duplicate": False,
    }
    event, run = hooks.event(answer["event_id"]), hooks.run(answer["run_ids"][0])
    assert (event.source, event.type, event.outcome) == ("webhook:etl/hook", "webhook.received", Outcome.RAN)
    assert event.data == {"hello": 1}
    assert event.time == event.received_at == hooks.clock.now
    assert event.headers["x-shop"] == "7"
    assert event.headers["authorization"] == event.headers["x-api-key"] == "[redacted]"
    assert [match.run_id for match in event.matches] == [run.id]
    assert [delivery.verdict for delivery in event.deliveries] == [Verdict.ACCEPTED]
    assert (run.pipeline, run.trigger, run.event_id) == ("etl", "hook", event.id)
    assert (run.execution_date, run.variables) == (hooks.clock.now, {})


def test_body_gives_variables_and_date_where_the_trigger_does_not(hooks: Hooks) -> None:
    body = {
        "variables": {"month": "2024-01", "deep": {"a": [1, None]}},
        "execution_date": "2024-01-31T01:00:00+01:00",
    }

    run = hooks.run(hooks.accept(body)["run_ids"][0])

    assert run.variables == {"month": "2024-01", "deep": {"a": [1, None]}}
    assert run.execution_date == datetime(2024, 1, 31, tzinfo=UTC)


def test_mapping_keeps_types(hooks: Hooks) -> None:
    body = {"id": 5, "name": "a.csv", "size": 3, "at": "2024-02-03", "variables": {"ignored": 1}}

    answer = hooks.accept(body, path="/webhooks/shop")

    run = hooks.run(answer["run_ids"][0])
    assert run.variables == {"object": "a.csv", "size": 3, "label": "x-webhook.received"}
    assert run.execution_date == datetime(2024, 2, 3, tzinfo=UTC)
    assert hooks.event(answer["event_id"]).key == "5"


def test_own_path_replaces_the_default_one(hooks: Hooks) -> None:
    assert hooks.post({}, path="/webhooks/etl/mapped").status_code == 404


def test_filtered_delivery_is_kept(hooks: Hooks) -> None:
    answer = hooks.accept({"id": 1, "size": 0}, path="/webhooks/shop")

    assert (answer["outcome"], answer["run_ids"]) == ("filtered", [])
    assert hooks.event(answer["event_id"]).matches[0].reason == "the filter is false"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"id": 21, "size": 1, "at": "2024-01-01"}, "name"),
        ({"id": 22, "size": 1, "name": "a", "at": "soon"}, "execution_date 'soon' is not a time"),
        ({"id": 23, "size": "x"}, "template"),
        ({"size": 1}, "id"),
        ({"id": [], "size": 1}, "`key`"),
        (b"[]", "template"),
    ],
)
def test_failed_mapping_is_accepted_with_its_reason(hooks: Hooks, body: Any, reason: str) -> None:
    answer = hooks.accept(body, path="/webhooks/shop")

    assert (answer["outcome"], answer["run_ids"]) == ("mapping_failed", [])
    assert reason in answer["reason"]
    assert hooks.event(answer["event_id"]).matches[0].reason == answer["reason"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"variables": [1]}, "`variables` of the body must be an object"),
        ({"execution_date": True}, "execution_date True is not a time"),
        ({"execution_date": 1e300}, "is not a time"),
        ({"execution_date": "0001-01-01T00:00:00+23:00"}, "is not a time"),
    ],
)
def test_body_of_the_wrong_shape_fails_the_mapping(hooks: Hooks, body: Any, reason: str) -> None:
    answer = hooks.accept(body)

    assert answer["outcome"] == "mapping_failed"
    assert reason in answer["reason"]


@pytest.mark.parametrize("body", [b'{"a": NaN}', b"\xff", b"[" * 100_000, b'["\\u0000"]', b'{"a":1,"a":1}'])
def test_unreadable_body_is_quarantined_as_it_came(hooks: Hooks, body: bytes) -> None:
    answer = hooks.accept(body)

    event = hooks.event(answer["event_id"])
    assert (answer["outcome"], answer["run_ids"]) == ("quarantined", [])
    assert event.outcome is Outcome.QUARANTINED
    assert event.data is None
    assert hooks.raw(event.id) == body


def test_repeat_gets_the_ids_of_the_first(hooks: Hooks, key: str) -> None:
    first = hooks.accept({"a": 1}, headers={"Idempotency-Key": key})

    repeat = hooks.post({"a": 2}, headers={"Idempotency-Key": key})

    assert repeat.status_code == 200
    assert repeat.get_json() == {**first, "duplicate": True}
    assert hooks.run(first["run_ids"][0]).event_id == first["event_id"]
    verdicts = [delivery.verdict for delivery in hooks.event(first["event_id"]).deliveries]
    assert sorted(verdicts) == [Verdict.ACCEPTED, Verdict.DUPLICATE]


def test_deliveries_without_a_key_are_all_different(hooks: Hooks) -> None:
    assert hooks.accept({"a": 1})["event_id"] != hooks.accept({"a": 1})["event_id"]


def test_body_is_the_key_where_the_trigger_says_so(hooks: Hooks) -> None:
    first = hooks.accept({"a": 1}, path="/webhooks/etl/by_body")

    assert hooks.post({"a": 1}, path="/webhooks/etl/by_body").get_json()["event_id"] == first["event_id"]
    assert hooks.accept({"a": 2}, path="/webhooks/etl/by_body")["event_id"] != first["event_id"]


def test_same_key_at_two_doors_is_two_events(hooks: Hooks, key: str) -> None:
    headers = {"Idempotency-Key": key}

    assert hooks.accept({}, headers=headers) != hooks.accept({}, path="/webhooks/etl/small", headers=headers)


@pytest.mark.parametrize("key", ["k" * 5000, "a\x7fb", "é\xff"])
def test_strange_keys_are_told_apart_all_the_same(hooks: Hooks, key: str) -> None:
    first = hooks.accept({}, headers={"Idempotency-Key": key})

    assert hooks.post({}, headers={"Idempotency-Key": key}).get_json()["event_id"] == first["event_id"]
    assert not hooks.post({}, headers={"Idempotency-Key": key + "x"}).get_json()["duplicate"]


def test_repeats_in_flight_make_one_run(hooks: Hooks, key: str) -> None:
    together = threading.Barrier(8)

    def send(number: int) -> Any:
        together.wait(10)
        return hooks.post({}, headers={"Idempotency-Key": f"{key}-{number % 2}"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [202] * 2
    assert len({answer.get_json()["run_ids"][0] for answer in answers}) == 2


def test_signed_delivery_is_keyed_by_its_id(hooks: Hooks) -> None:
    body = b'{"a": 1}'
    first = hooks.accept(
        body, path="/webhooks/etl/signed", headers=signed_headers(body, "msg_1", hooks.clock.now)
    )
    hooks.clock.advance(minutes=1)
    repeat = hooks.post(
        body, path="/webhooks/etl/signed", headers=signed_headers(body, "msg_1", hooks.clock.now)
    )

    assert repeat.get_json() == {**first, "duplicate": True}
    event = hooks.event(first["event_id"])
    assert event.key == "msg_1"
    assert event.headers["webhook-signature"] == "[redacted]"


def test_webhook_without_verify_wants_its_own_token(hooks: Hooks) -> None:
    path = "/webhooks/etl/guarded"

    assert hooks.post({}, path=path).status_code == 401
    assert hooks.post({}, path=path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert (
        hooks.post({}, path=path, headers={"Authorization": f"Bearer {hooks.token('guarded')}"}).status_code
        == 202
    )


def test_projects_address_is_the_same_door(hooks: Hooks, key: str) -> None:
    first = hooks.accept({}, headers={"Idempotency-Key": key})

    repeat = hooks.post({}, path="/projects/demo/webhooks/etl/hook", headers={"Idempotency-Key": key})

    assert repeat.get_json()["event_id"] == first["event_id"]
    assert hooks.post({}, path="/projects/other/webhooks/etl/hook").status_code == 404
