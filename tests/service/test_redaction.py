from __future__ import annotations

from pathlib import Path

import pytest

from service.intake.redaction import REDACTED, redacted
from tests.parts.hooks import running_hooks


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "x-hub-signature-256",
        "stripe-signature",
        "x-gitlab-token",
        "x-shopify-hmac-sha256",
        "x-client-secret",
        "x-goog-iap-jwt-assertion",
        "x-functions-key",
        "x-auth-key",
        "x-auth",
        "x-aws-credential",
    ],
)
def test_headers_that_speak_of_secrets_are_redacted(name: str) -> None:
    assert redacted({name: "value"}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name",
    [
        "webhook-id",
        "idempotency-key",
        "i-twilio-idempotency-token",
        "x-github-event",
        "x-author",
        "ce-partitionkey",
    ],
)
def test_other_headers_are_kept(name: str) -> None:
    assert redacted({name: "value"}) == {name: "value"}


def test_header_that_a_scheme_calls_secret_is_redacted() -> None:
    assert redacted({"x-door": "open", "x-other": "1"}, frozenset({"x-door"})) == {
        "x-door": REDACTED,
        "x-other": "1",
    }


def test_redacted_header_is_no_key(tmp_path: Path) -> None:
    """Every delivery would be a repeat of the first."""
    key = "{{ event.headers['x-request-token'] }}"
    with running_hooks(
        tmp_path, [{"name": "hook", "type": "webhook", "verify": "none", "key": key}]
    ) as hooks:
        answers = [hooks.accept({}, headers={"X-Request-Token": token}) for token in ("one", "two")]

    assert [answer["outcome"] for answer in answers] == ["mapping_failed"] * 2
    assert "redacted" in answers[0]["reason"]
    assert answers[0]["event_id"] != answers[1]["event_id"]
