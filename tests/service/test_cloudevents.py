"""CloudEvents at their door: every mode, what is no CloudEvent, who may send, and Eventarc's own."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store.values import Outcome, Verdict
from tests.parts.hooks import SECRET, Hooks, running_hooks, signed_headers

FEATURES = Path(__file__).parents[3] / "shared" / "data" / "webhooks"
TRIGGERS: list[dict[str, Any]] = [
    {"name": "orders", "type": "event", "event": "com.example.order"},
    {"name": "mine", "type": "event", "event": "com.example.order", "source": "/shops/mine"},
]
OPEN = {"cloudevents": {"verify": "none"}}
SIGNED = {"cloudevents": {"verify": {"scheme": "standard_webhooks", "secret": SECRET}}}
EVENT = {
    "specversion": "1.0",
    "source": "/shops/yours",
    "type": "com.example.order",
    "time": "2024-02-29T10:00:00.5+01:00",
    "subject": "order/7",
    "data": {"total": 12.5},
}
MENDED = {
    "ce_subject": "good",
    "ce_source": "/s",
    "ce_type": "t",
    "ce_specversion": "1.0",
    "ce_time": "2024-01-01T00:00:00Z",
}
_numbers = itertools.count(1)


def order(**changes: Any) -> dict[str, Any]:
    """Make an event that was not sent before."""
    return {**EVENT, "id": f"order-{next(_numbers)}", **changes}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    with running_hooks(tmp_path_factory.mktemp("open"), TRIGGERS, settings_of_project=OPEN) as hooks:
        yield hooks


@pytest.fixture(scope="module")
def signed_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    with running_hooks(tmp_path_factory.mktemp("signed"), TRIGGERS, settings_of_project=SIGNED) as hooks:
        yield hooks


def structured(hooks: Hooks, event: Any, **others: Any) -> Any:
    return hooks.post(
        event, path="/cloudevents", headers={"Content-Type": "application/cloudevents+json"}, **others
    )


def binary(hooks: Hooks, body: bytes = b"", **headers: str) -> Any:
    attributes = {"specversion": "1.0", "id": f"binary-{next(_numbers)}", "source": "/s", "type": "t"}
    named = {f"ce-{name}": value for name, value in attributes.items()}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return hooks.client.post("/cloudevents", data=body, headers={**named, **given})


def batch(hooks: Hooks, events: Any) -> Any:
    headers = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    return hooks.post(events, path="/cloudevents", headers=headers)


def test_a_structured_event_starts_the_triggers_that_wait_for_its_type(door: Hooks) -> None:
    answer = structured(door, order(id="a-1"))

    assert answer.status_code == 202
    told = answer.get_json()
    assert told["outcome"] == "ran"
    assert len(told["run_ids"]) == 1
    event = door.event(told["event_id"])
    assert (event.source, event.key, event.type) == ("cloudevents:/shops/yours", "a-1", "com.example.order")
    assert event.time.isoformat() == "2024-02-29T09:00:00.500000+00:00"
    assert event.subject == "order/7"
    assert event.data == {"total": 12.5}
    assert event.headers["ce-source"] == "/shops/yours"
    assert [(one.verdict, one.road) for one in event.deliveries] == [(Verdict.ACCEPTED, "cloudevents")]
    assert [match.trigger for match in event.matches] == ["orders"]


def test_a_source_narrows_a_trigger(door: Hooks) -> None:
    told = structured(door, order(source="/shops/mine")).get_json()

    assert {match.trigger for match in door.event(told["event_id"]).matches} == {"orders", "mine"}


def test_the_pair_of_source_and_id_makes_a_repeat(door: Hooks) -> None:
    first = structured(door, order(id="a-2")).get_json()

    again = structured(door, order(id="a-2", data={"total": 99}))
    other = structured(door, order(source="/shops/your", id="sa-2"))

    assert again.status_code == 200
    assert again.get_json() == {**first, "duplicate": True}
    assert other.status_code == 202


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_a_binary_event_is_the_same_as_a_structured_one(door: Hooks, content_type: str) -> None:
    """The scenario of `http-protocol-binding.feature`."""
    told = binary(
        door,
        b'{\n    "message": "Hello World!"\n}',
        ce_type="com.example.someevent",
        ce_time="2018-04-05T03:56:24Z",
        ce_id=f"1234 {content_type}",
        ce_source="/mycontext/subcontext",
        Content_Type=content_type,
    ).get_json()

    event = door.event(told["event_id"])
    assert told["outcome"] == "unmatched"
    assert (event.source, event.key) == ("cloudevents:/mycontext/subcontext", f"1234 {content_type}")
    assert event.time.isoformat() == "2018-04-05T03:56:24+00:00"
    assert event.data == {"message": "Hello World!"}
    assert event.headers["content-type"] == content_type


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ('"quoted \\"text\\" with %25"', 'quoted "text" with %'),
        ("100%", "100%"),
        ("%2525", "%25"),
        ("caf\xc3\xa9", "café"),  # bytes of UTF-8, as a header that nobody encoded carries them
    ],
)
def test_values_of_headers_are_decoded_once(door: Hooks, sent: str, read: str) -> None:
    told = binary(door, ce_subject=sent, ce_extra=sent).get_json()

    event = door.event(told["event_id"])
    assert (event.subject, event.headers["ce-extra"]) == (read, read)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ce_subject": "%C0%A0"}, "not UTF-8"),
        ({"ce_subject": "a%00b"}, "not allowed"),
        ({"ce_source": ""}, "'source' is missing"),
        ({"ce_type": ""}, "'type' is missing"),
        ({"ce_specversion": "0.3"}, "specversion '0.3'"),
        ({"ce_time": "yesterday"}, "the time 'yesterday'"),
        ({"ce_time": "2024-01-01T00:00:00"}, "the time"),
    ],
)
def test_what_breaks_the_rules_is_kept_and_quarantined(
    door: Hooks, headers: dict[str, str], reason: str
) -> None:
    answer = binary(door, b"{}", Content_Type="application/json", **headers)

    assert answer.status_code == 202
    told = answer.get_json()
    assert told["outcome"] == "quarantined"
    assert reason in told["reason"]
    assert door.raw(told["event_id"]) == b"{}"
    mended = binary(door, b"{}", **{"Content_Type": "application/json", **headers, **MENDED})
    assert mended.status_code == 202, "a mended event is no repeat of the broken one"


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b"hello", "text/plain", "hello"),
        (b"<a/>", "application/atom+xml", "<a/>"),
        (b"a=1&b=2", "application/x-www-form-urlencoded", {"a": "1", "b": "2"}),
        (b"[1]", "application/vnd.thing+json", [1]),
        (b"\x00\x01", "application/octet-stream", "AAE="),
        (b"\x08\x01", "application/protobuf", "CAE="),
        (b"", "application/json", None),
    ],
)
def test_data_is_read_by_its_content_type(door: Hooks, body: bytes, content_type: str, data: Any) -> None:
    told = binary(door, body, Content_Type=content_type).get_json()

    assert door.event(told["event_id"]).data == data
    if isinstance(data, str):
        assert door.raw(told["event_id"]) == body


def test_data_of_a_readable_event_may_be_unreadable(door: Hooks) -> None:
    told = binary(
        door, b'{"a": NaN}', Content_Type="application/json", ce_type="com.example.order"
    ).get_json()

    event = door.event(told["event_id"])
    assert (event.source, event.outcome) == ("cloudevents:/s", Outcome.QUARANTINED)
    assert [match.outcome for match in event.matches] == [Outcome.QUARANTINED]


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", {"a": 1}),
        ("text/plain", '{"a": 1}'),
        (None, {"a": 1}),
        ("image/png", "eyJhIjogMX0="),
    ],
)
def test_base64_is_decoded_in_structured_events(door: Hooks, content_type: str | None, data: Any) -> None:
    encoded = base64.b64encode(b'{"a": 1}').decode()
    event = order(data=None, data_base64=encoded, datacontenttype=content_type)

    told = structured(door, event).get_json()

    assert door.event(told["event_id"]).data == data


def test_extensions_are_headers_and_secret_ones_are_redacted(door: Hooks) -> None:
    event = order(partitionkey="7", sampledrate=3, isok=True, mytoken="hush")

    told = structured(door, event).get_json()

    headers = door.event(told["event_id"]).headers
    assert (headers["ce-partitionkey"], headers["ce-sampledrate"], headers["ce-isok"]) == ("7", "3", "true")
    assert headers["ce-mytoken"] == "[redacted]"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        b'{"specversion": "1.0"}',
        json.dumps(order(data_base64="AA==")).encode(),
        json.dumps(order(data=None, data_base64="%%")).encode(),
        json.dumps(order(data=None, data_base64=7)).encode(),
        json.dumps(order(thing={"a": 1})).encode(),
        json.dumps(order(ID="other")).encode(),
        json.dumps(order(id="a\ud800")).encode(),
    ],
)
def test_a_broken_structured_event_is_quarantined_once(door: Hooks, body: bytes) -> None:
    answer, again = structured(door, body), structured(door, body)

    assert (answer.status_code, again.status_code) == (202, 200)
    assert answer.get_json()["outcome"] == "quarantined"


def test_each_event_of_a_batch_gets_an_answer_of_its_own(door: Hooks) -> None:
    first = order()
    events = [first, order(), {"id": "broken"}, first]
    before = len(door.all_runs())

    answer = batch(door, events)

    assert answer.status_code == 202
    told = answer.get_json()
    assert [one["outcome"] for one in told] == ["ran", "ran", "quarantined", "ran"]
    assert [one["duplicate"] for one in told] == [False, False, False, True]
    assert told[0]["event_id"] == told[3]["event_id"]
    assert len(door.all_runs()) == before + 2
    assert batch(door, events).status_code == 200


def test_a_batch_may_be_empty_and_not_endless(door: Hooks) -> None:
    assert (batch(door, []).status_code, batch(door, []).get_json()) == (202, [])
    assert batch(door, [order(id=str(number)) for number in range(257)]).status_code == 413
    assert [one["outcome"] for one in batch(door, order()).get_json()] == ["quarantined"]


@pytest.mark.parametrize(
    "content_type",
    ["application/cloudevents+avro", "application/cloudevents", "application/json", "", "text/html"],
)
def test_what_is_no_cloudevent_is_refused(door: Hooks, content_type: str) -> None:
    answer = door.client.post("/cloudevents", data=b"{}", headers={"Content-Type": content_type})

    assert answer.status_code == 415
    assert door.refusals(1)[0].road == "cloudevents"


def test_long_and_strange_names_are_told_apart(door: Hooks) -> None:
    long = "x" * 5000
    first = structured(door, order(id=long + "1", source=long)).get_json()
    second = structured(door, order(id=long + "2", source=long)).get_json()

    assert first["event_id"] != second["event_id"]
    assert len(door.event(first["event_id"]).source) < 100


# Who may send


def test_a_signed_door_takes_what_is_signed(signed_door: Hooks) -> None:
    body = json.dumps(order()).encode()
    headers = {"Content-Type": "application/cloudevents+json"}
    good = signed_headers(body, "msg_1", signed_door.clock.now)

    refused = signed_door.post(body, path="/cloudevents", headers=headers)
    taken = signed_door.post(body, path="/cloudevents", headers={**headers, **good})

    assert (refused.status_code, taken.status_code) == (401, 202)
    assert signed_door.refusals(1)[0].road == "cloudevents"


def test_a_closed_door_looks_like_one_that_is_not_there(tmp_path: Path) -> None:
    with running_hooks(tmp_path, TRIGGERS) as hooks:
        closed = structured(hooks, order())
        absent = hooks.post(order(), path="/projects/nobody/cloudevents")
        asked = hooks.client.options("/cloudevents", headers={"WebHook-Request-Origin": "a.example"})

        assert (closed.status_code, absent.status_code, asked.status_code) == (404, 404, 404)
        assert closed.get_json() == absent.get_json()


def test_a_project_is_named_in_the_address(door: Hooks) -> None:
    headers = {"Content-Type": "application/cloudevents+json"}

    assert door.post(order(), path="/projects/demo/cloudevents", headers=headers).status_code == 202
    assert door.client.get("/cloudevents").status_code == 405


def test_rate_and_size_are_bounded(tmp_path: Path) -> None:
    chosen = {"cloudevents": {"verify": "none", "rate": "1/hour", "max_body": 200}}
    with running_hooks(tmp_path, TRIGGERS, settings_of_project=chosen) as hooks:
        big = structured(hooks, order(data="x" * 300))
        small = order(data=1, subject=None, time=None)
        first, second = structured(hooks, small), structured(hooks, small)

        assert (big.status_code, first.status_code, second.status_code) == (413, 202, 429)
        assert int(second.headers["Retry-After"]) > 3000


def test_a_door_whose_secret_is_missing_asks_to_come_again(tmp_path: Path) -> None:
    chosen = {"cloudevents": {"verify": {"scheme": "token", "secret": "{{ secret('not_there') }}"}}}
    with running_hooks(tmp_path, TRIGGERS, settings_of_project=chosen) as hooks:
        answer = structured(hooks, order())

        assert answer.status_code == 503
        assert "Retry-After" in answer.headers


# The handshake of the web hook binding


def test_a_sender_is_told_that_it_may_send(door: Hooks) -> None:
    asked = door.client.options(
        "/cloudevents",
        headers={
            "WebHook-Request-Origin": "eventemitter.example.com",
            "WebHook-Request-Rate": "120",
            "WebHook-Request-Callback": "https://eventemitter.example.com/confirm",
        },
    )

    assert asked.status_code == 200
    assert asked.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    assert asked.headers["WebHook-Allowed-Rate"] == "120"
    assert "POST" in asked.headers["Allow"]
    assert door.client.options("/cloudevents").headers["Allow"] == "POST, OPTIONS"


def test_origins_and_rates_that_are_not_allowed(tmp_path: Path) -> None:
    chosen = {"cloudevents": {"verify": "none", "rate": "60/minute", "origins": ["good.example"]}}
    with running_hooks(tmp_path, TRIGGERS, settings_of_project=chosen) as hooks:

        def ask(origin: str, rate: str) -> Any:
            headers = {"WebHook-Request-Origin": origin, "WebHook-Request-Rate": rate}
            return hooks.client.options("/cloudevents", headers=headers)

        assert ask("bad.example", "1").status_code == 403
        assert ask("good example", "1").status_code == 400
        assert ask("good.example", "many").status_code == 400
        assert ask("good.example", "*").headers["WebHook-Allowed-Rate"] == "60"
        assert ask("GOOD.example", "6000").headers["WebHook-Allowed-Rate"] == "60"


# Eventarc

BUCKET = "//storage.googleapis.com/projects/_/buckets/sample-bucket"


def eventarc(name: str) -> Any:
    return json.loads((FEATURES / "google" / name).read_text())


@pytest.mark.skipif(not FEATURES.is_dir(), reason="the payloads of providers are not here")
@pytest.mark.parametrize("name", ["simple", "complex"])
def test_news_of_an_object_gets_its_identity(signed_door: Hooks, name: str) -> None:
    resource = eventarc(f"binary/storage/StorageObjectData-{name}.json")
    body = json.dumps(resource).encode()

    answer = signed_door.client.post(
        "/cloudevents",
        data=body,
        headers={
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-type": "google.cloud.storage.object.v1.finalized",
            "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource['bucket']}",
            "ce-subject": f"objects/{resource['name']}",
            **signed_headers(body, "msg_1", signed_door.clock.now),
        },
    )

    event = signed_door.event(answer.get_json()["event_id"])
    generation = str(resource["generation"])
    assert event.key == f"gcs:{resource['bucket']}/{resource['name']}#{generation}:finalize"
    assert event.type == "object.finalized"
    assert event.headers["ce-type"] == "google.cloud.storage.object.v1.finalized"


def test_a_stranger_cannot_speak_for_a_bucket(door: Hooks) -> None:
    resource = {"bucket": "sample-bucket", "name": "a", "generation": "1"}
    told = structured(
        door,
        order(type="google.cloud.storage.object.v1.finalized", source=BUCKET, data=resource),
    ).get_json()

    assert door.event(told["event_id"]).source == f"cloudevents:{BUCKET}"


@pytest.mark.parametrize("subscription", ["projects/p/subscriptions/s", None])
def test_a_published_message_is_unwrapped(signed_door: Hooks, subscription: str | None) -> None:
    message = {
        "data": base64.b64encode(b'{"order": 7}').decode(),
        "attributes": {"region": "eu"},
        "messageId": "4711",
        "publishTime": "2024-02-29T09:00:00Z",
    }
    event = order(
        id="m-1",
        type="google.cloud.pubsub.topic.v1.messagePublished",
        data={"message": message, "subscription": subscription},
    )
    body = json.dumps(event).encode()
    signature = signed_headers(body, "msg_1", signed_door.clock.now)

    told = signed_door.post(
        body, path="/cloudevents", headers={"Content-Type": "application/cloudevents+json", **signature}
    ).get_json()

    stored = signed_door.event(told["event_id"])
    named = (
        ("pubsub:projects/p/subscriptions/s", "4711") if subscription else ("cloudevents:/shops/yours", "m-1")
    )
    assert (stored.source, stored.key) == named
    assert (stored.type, stored.data) == ("pubsub.message", {"order": 7})
    assert stored.headers["region"] == "eu"
