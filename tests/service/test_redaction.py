from __future__ import annotations

import pytest

from service.intake.redaction import REDACTED, redacted


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
    ],
)
def test_headers_that_speak_of_secrets_are_redacted(name: str) -> None:
    assert redacted({name: "value"}) == {name: REDACTED}


@pytest.mark.parametrize(
    "name", ["webhook-id", "idempotency-key", "i-twilio-idempotency-token", "x-github-event"]
)
def test_other_headers_are_kept(name: str) -> None:
    assert redacted({name: "value"}) == {name: "value"}


def test_header_that_a_scheme_calls_secret_is_redacted() -> None:
    assert redacted({"x-door": "open", "x-other": "1"}, frozenset({"x-door"})) == {
        "x-door": REDACTED,
        "x-other": "1",
    }
