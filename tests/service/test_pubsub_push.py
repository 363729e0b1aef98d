"""Pub/Sub push: what is posted at /pubsub/, wrapped and bare, becomes the message's event, once."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from pipelines.project import Project
from service.errors import StoreUnavailable
from service.intake.webhook_checks import webhook_problems
from service.store import events
from service.store.ids import new_id
from service.store.values import Outcome, StoredEvent
from tests.parts.hooks import Hooks, running_hooks
from tests.parts.pubsub import PROJECT, PubSubEmulator
from tests.parts.waiting import wait_until

TOKEN = "Bearer s3cret"
VERIFY = {"scheme": "token", "secret": "s3cret"}
SUBSCRIPTION = "projects/lake/subscriptions/orders"
HOOKS: list[dict[str, Any]] = [
    {
        "name": "orders",
        "type": "webhook",
        "format": "pubsub",
        "verify": VERIFY,
        "variables": {"order": "{{ event.data }}", "kind": "{{ event.headers.get('kind') }}"},
    },
    {
        "name": "by_key",
        "type": "webhook",
        "format": "pubsub",
        "verify": VERIFY,
        "key": "{{ event.headers['order-id'] }}",
    },
    {"name": "by_body", "type": "webhook", "format": "pubsub", "verify": VERIFY, "body_key": True},
    {"name": "open", "type": "webhook", "format": "pubsub", "verify": "none"},
    {"name": "plain", "type": "webhook", "verify": VERIFY},
]


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    with running_hooks(tmp_path_factory.mktemp("push") / "demo", HOOKS) as made:
        yield made


@pytest.fixture
def message_id() -> str:
    return new_id()


def wrapped(message_id: str, data: bytes = b'{"n": 1}', **more: Any) -> dict[str, Any]:
    """Return a push body as Pub/Sub sends it."""
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": {"Kind": "new"},
        "messageId": message_id,
        "message_id": message_id,
        "publishTime": "2024-02-29T23:59:59.123456789Z",
        "publish_time": "2024-02-29T23:59:59.123456789Z",
        **more,
    }
    return {"message": message, "subscription": SUBSCRIPTION}


def push(
    hooks: Hooks,
    body: Any,
    *,
    to: str = "orders",
    headers: Mapping[str, str] | None = None,
    path: str = "/pubsub/etl",
) -> TestResponse:
    return hooks.post(body, path=f"{path}/{to}", headers={"Authorization": TOKEN, **(headers or {})})


def bare(message_id: str, **more: str) -> dict[str, str]:
    """Return the headers of a push without wrapper, as Pub/Sub sends them."""
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "x-goog-pubsub-subscription-name": SUBSCRIPTION,
        "x-goog-pubsub-message-id": message_id,
        "x-goog-pubsub-publish-time": "2024-02-29T23:59:59.5Z",
        **more,
    }


def stored(hooks: Hooks, source: str = f"pubsub:{SUBSCRIPTION}") -> StoredEvent:
    """Return the newest event of a source."""
    with hooks.runtime.database.read() as connection:
        found = events.listing(connection, limit=500)
    return next(event for event in found if event.source == source)


def test_wrapped_message_becomes_an_event_with_its_run(hooks: Hooks, message_id: str) -> None:
    answer = push(hooks, wrapped(message_id, orderingKey="k1"))

    assert (answer.status_code, answer.data) == (204, b"")
    event = stored(hooks)
    assert (event.key, event.type) == (message_id, "pubsub.message")
    assert event.time.isoformat() == "2024-02-29T23:59:59.123456+00:00"
    assert event.data == {"n": 1}
    assert hooks.raw(event.id) == b'{"n": 1}'
    assert event.headers == {
        "kind": "new",
        "pubsub-message-id": message_id,
        "pubsub-subscription": SUBSCRIPTION,
        "pubsub-publish-time": "2024-02-29T23:59:59.123456Z",
        "pubsub-ordering-key": "k1",
        "pubsub-format": "json",
    }
    run = hooks.run(event.run_ids[0])
    assert run.variables == {"order": {"n": 1}, "kind": "new"}


def test_repeat_is_acked_and_starts_nothing(hooks: Hooks, message_id: str) -> None:
    push(hooks, wrapped(message_id))
    before = len(hooks.all_runs())

    answer = push(hooks, {**wrapped(message_id), "deliveryAttempt": 2})

    assert answer.status_code == 204
    assert len(hooks.all_runs()) == before
    deliveries = hooks.event(stored(hooks).id).deliveries
    assert [one.verdict for one in deliveries] == ["accepted", "duplicate"]


def test_endless_name_of_a_subscription_is_bounded(hooks: Hooks, message_id: str) -> None:
    """It is part of an index, and no index takes such a text."""
    assert push(hooks, {**wrapped(message_id), "subscription": "s" * 100_000}).status_code == 204

    with hooks.runtime.database.read() as connection:
        assert max(len(event.source) for event in events.listing(connection, limit=500)) < 400


def test_bare_message_is_the_same_event_as_a_wrapped_one(hooks: Hooks, message_id: str) -> None:
    answer = push(hooks, b'{"n": 1}', headers=bare(message_id, kind="new"))

    assert answer.status_code == 204
    event = stored(hooks)
    assert (event.key, event.data) == (message_id, {"n": 1})
    assert event.headers["kind"] == "new"
    assert not {"authorization", "host", "content-type", "user-agent"} & set(event.headers)
    assert push(hooks, wrapped(message_id)).status_code == 204
    assert stored(hooks).id == event.id


def test_the_same_message_pulled_would_have_the_same_identity(hooks: Hooks, message_id: str) -> None:
    push(hooks, wrapped(message_id))

    assert stored(hooks).source == f"pubsub:{SUBSCRIPTION}"


@pytest.mark.parametrize(
    ("data", "read", "form"),
    [
        (b"", None, "json"),
        (b"plain words", "plain words", "text"),
        (b"\x00\xff", "AP8=", "bytes"),
    ],
)
def test_bodies_of_every_kind_are_read(
    hooks: Hooks, message_id: str, data: bytes, read: Any, form: str
) -> None:
    assert push(hooks, wrapped(message_id, data)).status_code == 204

    event = stored(hooks)
    assert (event.data, event.headers["pubsub-format"]) == (read, form)


def test_message_of_attributes_alone_is_one(hooks: Hooks, message_id: str) -> None:
    body = {"message": {"attributes": {"Kind": "x"}, "messageId": message_id}, "subscription": SUBSCRIPTION}

    assert push(hooks, body).status_code == 204
    assert (stored(hooks).key, stored(hooks).data) == (message_id, None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": NaN}',
        b'{"a": 1e400}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b"{",
        b'{"a":1,"a":2}',
    ],
    ids=["nan", "huge", "nul", "surrogate", "deep", "broken", "twice"],
)
def test_poison_in_the_data_is_quarantined_and_acked(hooks: Hooks, message_id: str, data: bytes) -> None:
    assert push(hooks, wrapped(message_id, data)).status_code == 204

    event = stored(hooks)
    assert (event.key, event.outcome, event.data) == (message_id, Outcome.QUARANTINED, None)
    assert hooks.raw(event.id) == data
    assert event.reason


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"message": {"data": NaN}}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        json.dumps({"message": {"data": "%%%", "messageId": "1"}}).encode(),
        json.dumps({"message": {"attributes": {"a": "x\x00y"}, "messageId": "1"}}).encode(),
    ],
)
def test_push_that_cannot_be_read_is_quarantined_and_acked(hooks: Hooks, body: bytes) -> None:
    assert push(hooks, body).status_code == 204

    event = stored(hooks, "webhook:etl/orders")
    assert event.outcome is Outcome.QUARANTINED
    assert hooks.raw(event.id) == body


@pytest.mark.parametrize("body", [{"n": 1}, {"message": {"data": ""}, "subscription": SUBSCRIPTION}, [], 7])
def test_message_without_an_id_is_refused_and_says_why(hooks: Hooks, body: Any) -> None:
    before = len(hooks.all_runs())

    answer = push(hooks, body)

    assert answer.status_code == 400
    assert "no id" in answer.get_json()["detail"]
    assert len(hooks.all_runs()) == before
    wait_until(
        lambda: any("--push-no-wrapper-write-metadata" in no.reason for no in hooks.refusals(1)),
        what="the reason",
    )


def test_message_without_an_id_is_taken_where_the_trigger_has_a_key(hooks: Hooks, message_id: str) -> None:
    first = push(hooks, {"n": 1}, to="by_key", headers={"Order-Id": message_id})
    again = push(hooks, {"n": 1}, to="by_key", headers={"Order-Id": message_id})

    assert (first.status_code, again.status_code) == (204, 204)
    event = stored(hooks, "webhook:etl/by_key")
    assert event.key == message_id
    assert len(event.run_ids) == 1


def test_message_without_an_id_is_taken_where_its_body_is_the_key(hooks: Hooks, message_id: str) -> None:
    answers = {push(hooks, {"n": message_id}, to="by_body").status_code for _ in range(2)}

    assert answers == {204}
    assert stored(hooks, "webhook:etl/by_body").data == {"n": message_id}


def notification(generation: str) -> dict[str, str]:
    return {
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": "lake",
        "objectId": "yellow/a.parquet",
        "objectGeneration": generation,
        "eventTime": "2024-02-29T12:00:00Z",
    }


OBJECT = json.dumps({"kind": "storage#object", "name": "yellow/a.parquet", "bucket": "lake", "size": "5"})


def test_notification_of_an_object_is_that_objects_event_by_both_forms(hooks: Hooks) -> None:
    first = push(hooks, wrapped(new_id(), OBJECT.encode(), attributes=notification("17")))
    before = len(hooks.all_runs())
    again = push(hooks, OBJECT.encode(), headers=bare(new_id(), **notification("17")))

    assert (first.status_code, again.status_code) == (204, 204)
    event = stored(hooks, "gcs:lake")
    assert event.key == "gcs:lake/yellow/a.parquet#17:finalize"
    assert event.data["size"] == 5
    assert len(event.run_ids) == 1
    assert len(hooks.all_runs()) == before


def test_open_door_cannot_speak_for_a_subscription_or_a_bucket(hooks: Hooks, message_id: str) -> None:
    push(hooks, wrapped(message_id), to="open")
    assert stored(hooks, "webhook:etl/open").key == message_id

    push(hooks, wrapped(new_id(), OBJECT.encode(), attributes=notification("99")), to="open")
    assert stored(hooks, "webhook:etl/open").type == "pubsub.message"


def test_door_lives_at_its_own_address_only(hooks: Hooks, message_id: str) -> None:
    assert push(hooks, wrapped(message_id), path="/webhooks/etl").status_code == 404
    assert push(hooks, wrapped(message_id), to="plain").status_code == 404
    assert push(hooks, wrapped(message_id), to="nowhere").status_code == 404
    assert push(hooks, wrapped(message_id), path="/projects/demo/pubsub/etl").status_code == 204
    assert push(hooks, wrapped(message_id), path="/projects/other/pubsub/etl").status_code == 404


def test_sender_that_is_not_authentic_is_refused(hooks: Hooks, message_id: str) -> None:
    assert push(hooks, wrapped(message_id), headers={"Authorization": "Bearer no"}).status_code == 401
    assert hooks.client.get("/pubsub/etl/orders").status_code == 405


def test_store_that_is_down_is_a_503(hooks: Hooks, message_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise StoreUnavailable("accept", "it is away")

    monkeypatch.setattr(hooks.runtime.database, "write", fail)

    answer = push(hooks, wrapped(message_id))

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_a_path_elsewhere_and_an_unknown_format_are_told(tmp_path: Any) -> None:
    wrong = [
        {"name": "a", "type": "webhook", "format": "pubsub", "verify": "none", "path": "/webhooks/x"},
        {"name": "b", "type": "webhook", "format": "pubsup", "verify": "none"},
    ]
    with running_hooks(tmp_path / "demo", wrong):
        problems = [str(one) for one in webhook_problems(Project.load(tmp_path / "demo"))]

    assert any("`path` is not for `format: pubsub`" in one for one in problems)
    assert any("pubsub, not 'pubsup'" in one for one in problems)


def test_bare_attribute_that_is_no_latin_text_is_read(hooks: Hooks, message_id: str) -> None:
    spelt = "Müller".encode().decode("latin-1")  # how a server hands such a header on

    assert push(hooks, b"1", headers=bare(message_id, name=spelt)).status_code == 204
    assert stored(hooks).headers["name"] == "Müller"


@pytest.mark.parametrize("form", ["wrapped", "bare"])
def test_emulator_pushes_and_takes_the_answer_for_an_ack(
    hooks: Hooks, pubsub: PubSubEmulator, form: str
) -> None:
    server = make_server("127.0.0.1", 0, hooks.app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bare_too = {} if form == "wrapped" else {"no_wrapper": {"write_metadata": True}}
    endpoint = f"http://127.0.0.1:{server.port}/pubsub/etl/open"
    topic = pubsub.make_topic()
    subscription = pubsub.make_subscription(topic, push_config={"push_endpoint": endpoint, **bare_too})

    ids = pubsub.publish(topic, [{"data": b'{"n": 5}', "attributes": {"Kind": "new"}}])

    def came() -> StoredEvent | None:
        with hooks.runtime.database.read() as connection:
            return next((event for event in events.listing(connection) if event.key in ids), None)

    event = wait_until(came, what="the push")
    assert (event.data, event.headers["kind"]) == ({"n": 5}, "new")
    assert event.headers["pubsub-subscription"] == f"projects/{PROJECT}/subscriptions/{subscription}"
    wait_until(lambda: hooks.event(event.id).run_ids, what="its run")
    server.shutdown()
    assert pubsub.unacked(subscription) == []
