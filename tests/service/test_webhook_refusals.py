"""What a door turns away: with which status, alike for the sender, and noted for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.store.session import Database
from tests.parts.hooks import SECRET, Hooks, running_hooks
from tests.parts.waiting import wait_until

HOOKS: list[dict[str, Any]] = [
    {"name": "hook", "type": "webhook", "verify": {"scheme": "standard_webhooks", "secret": SECRET}},
    {"name": "open", "type": "webhook", "verify": "none", "max_body": 100},
    {"name": "off", "type": "webhook", "verify": "none", "enabled": False},
    {"name": "slow", "type": "webhook", "verify": "none", "rate": "2/minute"},
    {"name": "queue", "type": "webhook", "verify": "none", "queue_limit": 2},
    {
        "name": "broken",
        "type": "webhook",
        "verify": {"scheme": "hmac", "header": "h", "secret": "{{ secret('nope') }}"},
    },
]


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    with running_hooks(tmp_path / "demo", HOOKS) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/webhooks/etl/open", "/webhooks/no/such"])
def test_other_methods_are_not_allowed(hooks: Hooks, method: str, path: str) -> None:
    answer = hooks.client.open(path, method=method)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


def test_unknown_and_disabled_webhooks_are_alike(hooks: Hooks) -> None:
    unknown = hooks.post({}, path="/webhooks/no/such")
    disabled = hooks.post({}, path="/webhooks/etl/off")

    assert unknown.status_code == disabled.status_code == 404
    assert unknown.data == disabled.data
    assert dict(unknown.headers) == dict(disabled.headers)


def test_every_bad_signature_gets_the_same_answer(hooks: Hooks) -> None:
    hooks.clock.advance(hours=1)
    answers = [
        hooks.post({}),
        hooks.post({}, headers={"webhook-id": "a", "webhook-timestamp": "x", "webhook-signature": "v1,"}),
        hooks.post_signed({}, "a.b"),
        hooks.post_signed({}, "old", at=hooks.clock.now - timedelta(minutes=6)),
        hooks.post_signed({}, "future", at=hooks.clock.now + timedelta(minutes=6)),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1
    assert hooks.all_runs() == []
    assert hooks.post_signed({}, "good").status_code == 202


def test_refused_deliveries_are_noted_with_their_reason(hooks: Hooks) -> None:
    hooks.post({}, headers={"webhook-signature": "v1,c2VjcmV0LXRyeQ=="})
    hooks.post({}, path="/webhooks/no/such")
    hooks.post(b"x" * 101, path="/webhooks/etl/open")

    noted = {(refusal.road, refusal.reason) for refusal in hooks.refusals(3)}
    assert noted == {
        ("webhook:etl/hook", "a header that the scheme needs is missing"),
        ("address:/webhooks/no/such", "no enabled webhook has this address"),
        ("webhook:etl/open", "the body has more than 100 bytes"),
    }
    assert {refusal.remote for refusal in hooks.refusals(3)} == {"127.0.0.1"}


def test_body_over_the_triggers_limit_is_refused(hooks: Hooks) -> None:
    assert hooks.post(b"x" * 101, path="/webhooks/etl/open").status_code == 413
    assert hooks.post(b"1" + b" " * 99, path="/webhooks/etl/open").status_code == 202


def test_body_of_unknown_length_is_refused_while_it_is_read(hooks: Hooks) -> None:
    class Endless(BytesIO):
        given = 0

        def readinto(self, buffer: Any) -> int:
            self.given += len(buffer)
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    body = Endless()
    answer = hooks.client.post(
        "/webhooks/etl/open",
        input_stream=body,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert answer.status_code == 413
    assert body.given < 1000


def test_delivery_over_the_rate_is_told_when_to_come_back(hooks: Hooks) -> None:
    answers = [hooks.post({}, path="/webhooks/etl/slow") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60


def test_delivery_over_the_queue_limit_is_told_to_come_back(hooks: Hooks) -> None:
    answers = [hooks.post({}, path="/webhooks/etl/queue") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2].headers["Retry-After"]) >= 1

    hooks.finish_one()

    wait_until(
        lambda: hooks.post({}, path="/webhooks/etl/queue").status_code == 202, what="there is room again"
    )


def test_webhook_that_cannot_verify_takes_nothing_until_it_is_mended(hooks: Hooks) -> None:
    answer = hooks.post({}, path="/webhooks/etl/broken")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "nope" not in answer.text
    assert "the secret 'nope' is not set" in hooks.refusals(1)[0].reason


def test_store_that_is_down_is_no_acceptance(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks.post({}, path="/webhooks/etl/open")

    def down(*_: object) -> None:
        raise StoreUnavailable("sqlite:///x", "gone")

    monkeypatch.setattr(Database, "write", down)
    answer = hooks.post({}, path="/webhooks/etl/open")

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "sqlite" not in answer.text


def test_service_that_stops_is_no_acceptance(hooks: Hooks) -> None:
    hooks.dispatcher.stop()

    answer = hooks.post({}, path="/webhooks/etl/open")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", ""])
def test_wait_that_is_no_time_is_refused_before_anything_is_stored(hooks: Hooks, wait: str) -> None:
    assert hooks.post({}, path=f"/webhooks/etl/open?wait={wait}").status_code == 400
    assert hooks.all_runs() == []


def test_changed_triggers_are_served_at_once(hooks: Hooks) -> None:
    assert hooks.post({}, path="/webhooks/etl/new").status_code == 404

    hooks.rewrite([{"name": "new", "type": "webhook", "verify": "none"}])

    assert hooks.post({}, path="/webhooks/etl/new").status_code == 202
    assert hooks.post({}, path="/webhooks/etl/open").status_code == 404


def test_changed_secret_counts_without_a_restart(tmp_path: Path) -> None:
    verify = {"scheme": "token", "secret": "{{ secret('door') }}"}
    secret = tmp_path / "demo" / ".millrace" / "secrets" / "door"
    secret.parent.mkdir(parents=True)
    secret.write_text("old")
    settings = {"cloudevents": {"verify": verify}}
    doors = [{"name": "hook", "type": "webhook", "verify": verify}]

    with running_hooks(tmp_path / "demo", doors, settings_of_project=settings) as hooks:

        def answers(token: str) -> list[int]:
            paths, headers = ("/webhooks/etl/hook", "/cloudevents"), {"Authorization": f"Bearer {token}"}
            return [hooks.post({}, path=path, headers=headers).status_code for path in paths]

        assert (answers("old"), answers("renewed")) == ([202, 415], [401, 401])
        secret.write_text("renewed")
        assert hooks.runtime.projects.refresh()
        assert (answers("old"), answers("renewed")) == ([401, 401], [202, 415])
        assert not hooks.runtime.projects.refresh()
