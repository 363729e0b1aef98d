"""Providers at the doors of the service: what GitHub, Stripe, Slack and the others post, and the answers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.parts.google_tokens import AUDIENCE, EMAIL, Issuer, claims_at, issuing, token
from tests.parts.hooks import SECRET, Hooks, running_hooks, signed_headers
from tests.parts.verification import (
    github_headers,
    shopify_headers,
    sign_base64,
    slack_headers,
    stripe_headers,
)

PAYLOADS = Path(__file__).parents[3] / "shared" / "data" / "webhooks"
KEY = "a secret of 24 characters"


def hook(name: str, **verify: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "webhook",
        "verify": {"scheme": name, "secret": "{{ env_var('KEY') }}", **verify},
    }


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as made:
        yield made


@pytest.fixture
def hooks(tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooks]:
    monkeypatch.setenv("KEY", KEY)
    google = {"scheme": "google_oidc", "audience": AUDIENCE, "email": EMAIL, "certificates": issuer.url}
    triggers = [
        *(hook(name) for name in ("github", "stripe", "slack", "shopify", "gitlab")),
        hook("twilio", url="https://hooks.example.com/sms"),
        hook("basic", username="partner"),
        hook("standard_webhooks", secret=SECRET),
        {"name": "google_oidc", "type": "webhook", "verify": google},
        {"name": "guarded", "type": "webhook", "verify": "none", "allow": ["192.0.2.0/24"]},
        {
            "name": "near",
            "type": "webhook",
            "verify": {"scheme": "none", "allow": ["192.0.2.0/24"]},
        },
        {"name": "headed", "type": "webhook", "verify": "none", "required_headers": ["X-Topic"]},
    ]
    with running_hooks(tmp_path / "demo", triggers) as made:
        yield made


def headers_of(name: str, body: bytes, hooks: Hooks, delivery: str) -> dict[str, str]:
    """Return what the provider sends with the body."""
    now = hooks.clock.now
    basic = b64encode(f"partner:{KEY}".encode()).decode()
    made: dict[str, dict[str, str]] = {
        "github": github_headers(KEY, body, delivery),
        "stripe": stripe_headers(KEY, body, now),
        "slack": slack_headers(KEY, body, now),
        "shopify": shopify_headers(KEY, body, delivery, "orders/create"),
        "gitlab": {"X-Gitlab-Token": KEY, "Idempotency-Key": delivery},
        "basic": {"Authorization": f"Basic {basic}", "Idempotency-Key": delivery},
        "standard_webhooks": signed_headers(body, delivery, now),
        "google_oidc": {"Authorization": f"Bearer {token(claims_at(now))}", "Idempotency-Key": delivery},
    }
    return made[name]


def at(name: str) -> str:
    return f"/webhooks/etl/{name}"


BODY = b'{"id": "delivery-1", "event_id": "delivery-1", "text": "first"}'
KEYS = {"shopify": "delivery-1:orders/create"}
SIMPLE = ["github", "stripe", "slack", "shopify", "gitlab", "basic", "standard_webhooks", "google_oidc"]


@pytest.mark.parametrize("name", SIMPLE)
def test_delivery_and_its_repeat(hooks: Hooks, name: str) -> None:
    headers = headers_of(name, BODY, hooks, "delivery-1")

    first = hooks.post(BODY, at(name), headers)
    again = hooks.post(BODY, at(name), headers)

    assert (first.status_code, first.get_json()["outcome"]) == (202, "ran")
    assert (again.status_code, again.get_json()["duplicate"]) == (200, True)
    assert again.get_json()["event_id"] == first.get_json()["event_id"]
    event = hooks.event(first.get_json()["event_id"])
    assert event.key == KEYS.get(name, "delivery-1")
    stored = json.dumps(dict(event.headers))
    assert KEY not in stored
    assert not any(value in stored for key, value in headers.items() if "ignature" in key or "Auth" in key)
    assert len(hooks.all_runs()) == 1


@pytest.mark.parametrize("name", SIMPLE)
def test_delivery_of_somebody_else_is_refused_alike(hooks: Hooks, name: str) -> None:
    headers = headers_of(name, BODY, hooks, "delivery-1")
    forged = {key: "x" + value[1:] if value[0] != "x" else "y" + value[1:] for key, value in headers.items()}
    answers = [
        hooks.post(BODY, at(name)),
        hooks.post(BODY, at(name), forged),
        hooks.post({}, at("github")),
        hooks.post({}, at("guarded")),
        hooks.post({}, at("headed")),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1
    assert hooks.all_runs() == []


@pytest.mark.parametrize("name", ["stripe", "slack", "standard_webhooks", "google_oidc"])
def test_delivery_that_is_too_old_is_refused(hooks: Hooks, name: str) -> None:
    headers = headers_of(name, BODY, hooks, "delivery-1")
    hooks.clock.advance(hours=2)

    assert hooks.post(BODY, at(name), headers).status_code == 401


def test_twilio_behind_a_proxy(hooks: Hooks) -> None:
    def send(status: str) -> Any:
        signed = f"https://hooks.example.com/sms?c=1MessageSidSM1MessageStatus{status}".encode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": sign_base64(KEY, signed, "sha1"),
        }
        body = f"MessageSid=SM1&MessageStatus={status}".encode()
        return hooks.post(body, at("twilio") + "?c=1", headers)

    assert [send(status).status_code for status in ("sent", "delivered", "sent")] == [202, 202, 200]
    assert hooks.event(send("sent").get_json()["event_id"]).key == "SM1:sent"


def test_slack_challenge_is_answered_and_starts_nothing(hooks: Hooks) -> None:
    body = b'{"token": "t", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3g", "type": "url_verification"}'

    answer = hooks.post(body, at("slack"), slack_headers(KEY, body, hooks.clock.now))
    unsigned = hooks.post(body, at("slack"))
    stale = hooks.post(body, at("slack"), slack_headers(KEY, body, hooks.clock.now - timedelta(minutes=6)))
    elsewhere = hooks.post(body, at("github"), github_headers(KEY, body, "1"))

    assert (answer.status_code, answer.text) == (200, json.loads(body)["challenge"])
    assert answer.content_type.startswith("text/plain")
    assert (unsigned.status_code, stale.status_code) == (401, 401)
    assert elsewhere.status_code == 202
    assert [run.trigger for run in hooks.all_runs()] == ["github"]
    assert {refusal.road for refusal in hooks.refusals(2)} == {"webhook:etl/slack"}


def test_delivery_waits_for_certificates_that_cannot_be_fetched(hooks: Hooks, issuer: Issuer) -> None:
    issuer.status = 500
    headers = headers_of("google_oidc", BODY, hooks, "delivery-1")

    answer = hooks.post(BODY, at("google_oidc"), headers)

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert issuer.url not in answer.text
    assert "the certificates at" in hooks.refusals(1)[0].reason

    issuer.status = 200
    hooks.clock.advance(seconds=6)
    assert hooks.post(BODY, at("google_oidc"), headers).status_code == 202


def test_certificates_outlive_a_change_of_other_triggers(hooks: Hooks, issuer: Issuer) -> None:
    for _ in range(2):
        hooks.post(BODY, at("google_oidc"), headers_of("google_oidc", BODY, hooks, "delivery-1"))
        hooks.dispatcher._catalog._snapshot = None

    assert issuer.asked == 1


def test_only_known_networks_and_headers(hooks: Hooks) -> None:
    for name in ("guarded", "near"):
        near = hooks.client.post(at(name), environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
        far = hooks.client.post(at(name), environ_overrides={"REMOTE_ADDR": "198.51.100.7"})
        assert (near.status_code, far.status_code) == (202, 401)
    assert hooks.refusals(1)[0].reason == "the sender's address is not allowed"
    assert hooks.post({}, at("headed"), {"X-Topic": "orders"}).status_code == 202


@pytest.mark.parametrize(
    "name",
    ["ping/payload.json", "pull_request/opened.payload.json", "push/payload.json", "fork/payload.json"],
)
def test_real_payloads_of_github(hooks: Hooks, name: str) -> None:
    path = PAYLOADS / "github" / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    body = path.read_bytes()

    answer = hooks.post(body, at("github"), github_headers(KEY, body, name, name.partition("/")[0]))

    assert answer.status_code == 202
    event = hooks.event(answer.get_json()["event_id"])
    assert event.data == json.loads(body)
    assert event.headers["x-github-event"] == name.partition("/")[0]


def test_real_event_of_stripe(hooks: Hooks) -> None:
    path = PAYLOADS / "stripe" / "fixtures3.json"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    body = json.dumps(json.loads(path.read_bytes())["resources"]["event"]).encode()

    answer = hooks.post(body, at("stripe"), stripe_headers(KEY, body, hooks.clock.now))

    assert answer.status_code == 202
    assert hooks.event(answer.get_json()["event_id"]).key == json.loads(body)["id"]
