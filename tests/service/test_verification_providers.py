"""GitHub, Stripe, Slack, Shopify and GitLab: what each signs, what none of them sent, and rotation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.intake.redaction import REDACTED, redacted
from service.intake.verify.base import Fault, SchemeError, Signed
from service.intake.verify.registry import build_scheme
from tests.parts.hooks import signed_headers
from tests.parts.verification import (
    fault_of,
    github_headers,
    lowered,
    refused,
    shopify_headers,
    sign_hex,
    slack_headers,
    stripe_headers,
)

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret of 24 characters"
OTHER = "another secret of the same"
BODY = b'{"id": "evt_1", "event_id": "Ev1", "text": "\xff is no UTF-8"}'
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

# GitHub

GITHUB = {"scheme": "github", "secret": "It's a Secret to Everybody"}
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def github(signature: str) -> Signed:
    return Signed(b"Hello, World!", {"x-hub-signature-256": signature})


def test_github_vector() -> None:
    assert fault_of(GITHUB, github(GITHUB_SIGNATURE), NOW) is None


@pytest.mark.parametrize(
    "signature",
    [
        GITHUB_SIGNATURE[:-1] + "8",
        GITHUB_SIGNATURE[:-2],
        GITHUB_SIGNATURE.removeprefix("sha256="),
        "sha256=",
        "sha1=" + GITHUB_SIGNATURE[7:],
        "SHA256=" + GITHUB_SIGNATURE[7:],
        f"{GITHUB_SIGNATURE},{GITHUB_SIGNATURE}",  # the header given twice
        "sha256=" + "é" * 64,
        "sha256=" + "٣" * 64,
        "sha256=\udcff",
    ],
)
def test_github_signature_that_is_another_is_refused(signature: str) -> None:
    assert refused(GITHUB, github(signature), NOW) is Fault.WRONG_SIGNATURE


def test_github_takes_no_sha1() -> None:
    legacy = Signed(b"Hello, World!", {"x-hub-signature": "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59"})

    assert refused(GITHUB, legacy, NOW) is Fault.MISSING_HEADER


# Stripe

STRIPE = {"scheme": "stripe", "secret": "whsec_used as the text it is"}


def stripe(header: str) -> Signed:
    return Signed(BODY, {"stripe-signature": header})


def stripe_header(at: datetime = NOW, secret: str = STRIPE["secret"]) -> str:
    return stripe_headers(secret, BODY, at)["Stripe-Signature"]


def test_stripe_signature() -> None:
    assert fault_of(STRIPE, stripe(stripe_header()), NOW) is None


def test_stripe_signature_of_a_rolled_secret_is_found_among_several() -> None:
    stamp, signature, _ = stripe_header().split(",")

    assert fault_of(STRIPE, stripe(f"{stamp},v1={'0' * 64},{signature}"), NOW) is None
    assert fault_of(STRIPE, stripe(f"{signature}, {stamp}"), NOW) is None


@pytest.mark.parametrize("seconds", [-301, 301])
def test_stripe_time_is_held_to_on_both_sides(seconds: int) -> None:
    assert refused(STRIPE, stripe(stripe_header(NOW + timedelta(seconds=seconds))), NOW) is (
        Fault.STALE_TIMESTAMP
    )
    assert fault_of(
        {**STRIPE, "tolerance": 301}, stripe(stripe_header(NOW - timedelta(seconds=301))), NOW
    ) is (None)


STAMP = str(int(NOW.timestamp()))
STRIPE_V1 = sign_hex(STRIPE["secret"], f"{STAMP}.".encode() + BODY)


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (f"t={STAMP},v0={STRIPE_V1}", Fault.WRONG_SIGNATURE),
        (f"t={STAMP},v1={STRIPE_V1[:-1]}", Fault.WRONG_SIGNATURE),
        (f"t={STAMP}", Fault.WRONG_SIGNATURE),
        (f"t={STAMP},v1=", Fault.WRONG_SIGNATURE),
        (f"t={STAMP},v1=é", Fault.WRONG_SIGNATURE),
        (f"t={STAMP}" + ",v1=00" * 10_000 + f",v1={STRIPE_V1}", Fault.WRONG_SIGNATURE),
        (f"v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        (f"t={STAMP},t={STAMP},v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        (f"t={STAMP}.5,v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        (f"t= {STAMP},v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        (f"t={'9' * 400},v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        (f"t=-1,v1={STRIPE_V1}", Fault.MALFORMED_TIMESTAMP),
        ("t=", Fault.MALFORMED_TIMESTAMP),
        (",", Fault.MALFORMED_TIMESTAMP),
        ("", Fault.MISSING_HEADER),
    ],
)
def test_stripe_header_that_is_another_is_refused(header: str, fault: Fault) -> None:
    assert refused(STRIPE, stripe(header), NOW) is fault


# Slack

SLACK = {"scheme": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5"}
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
    b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_HEADERS = {
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    "x-slack-request-timestamp": "1531420618",
}
SLACK_NOW = datetime.fromtimestamp(1531420618, UTC)


def test_slack_vector() -> None:
    assert fault_of(SLACK, Signed(SLACK_BODY, SLACK_HEADERS), SLACK_NOW) is None


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"x-slack-request-timestamp": "1531420619"}, Fault.WRONG_SIGNATURE),
        ({"x-slack-request-timestamp": "junk"}, Fault.MALFORMED_TIMESTAMP),
        ({"x-slack-request-timestamp": "1_531_420_618"}, Fault.MALFORMED_TIMESTAMP),
        ({"x-slack-request-timestamp": ""}, Fault.MISSING_HEADER),
        ({"x-slack-signature": ""}, Fault.MISSING_HEADER),
        ({"x-slack-signature": SLACK_HEADERS["x-slack-signature"][3:]}, Fault.WRONG_SIGNATURE),
        ({"x-slack-signature": "v1" + SLACK_HEADERS["x-slack-signature"][2:]}, Fault.WRONG_SIGNATURE),
    ],
)
def test_slack_request_that_is_another_is_refused(changed: dict[str, str], fault: Fault) -> None:
    assert refused(SLACK, Signed(SLACK_BODY, {**SLACK_HEADERS, **changed}), SLACK_NOW) is fault


def test_slack_window_and_body() -> None:
    good = Signed(SLACK_BODY, SLACK_HEADERS)

    for away in (timedelta(seconds=301), -timedelta(seconds=301)):
        assert refused(SLACK, good, SLACK_NOW + away) is Fault.STALE_TIMESTAMP
    assert refused(SLACK, Signed(SLACK_BODY + b"-", SLACK_HEADERS), SLACK_NOW) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize(
    ("body", "challenge"),
    [
        (b'{"type": "url_verification", "token": "t", "challenge": "3eZbrw1a"}', "3eZbrw1a"),
        (b'{"type": "event_callback", "challenge": "url_verification"}', None),
        (b'{"type": "url_verification", "challenge": 5}', None),
        (b'{"type": "url_verification", "challenge": "a\\r\\nb"}', None),
        (b'["url_verification"]', None),
        (b"url_verification" + b"[" * 4000, None),
        (b'{"type": "url_verification", "challenge": "x"}' + b" " * 5000, None),
        (b"\xff url_verification", None),
    ],
)
def test_slack_challenge_is_seen(body: bytes, challenge: str | None) -> None:
    assert build_scheme(SLACK).challenge(body) == challenge
    assert build_scheme({**SLACK, "allow": ["10.0.0.0/8"]}).challenge(body) == challenge
    assert build_scheme(GITHUB).challenge(body) is None


# Shopify

SHOPIFY = {"scheme": "shopify", "secret": SECRET}
SHOPIFY_HEADERS = lowered(shopify_headers(SECRET, BODY, "98880550-7158", "orders/create"))


def test_shopify_signature() -> None:
    assert fault_of(SHOPIFY, Signed(BODY, SHOPIFY_HEADERS), NOW) is None
    assert refused(SHOPIFY, Signed(BODY + b" ", SHOPIFY_HEADERS), NOW) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize("signature", ["AAAA", "é", "=", sign_hex(SECRET, BODY), "\udcff", "A" * 10_000])
def test_shopify_signature_that_is_another_is_refused(signature: str) -> None:
    signed = Signed(BODY, {**SHOPIFY_HEADERS, "x-shopify-hmac-sha256": signature})

    assert refused(SHOPIFY, signed, NOW) is Fault.WRONG_SIGNATURE


# GitLab

GITLAB = {"scheme": "gitlab", "secret": SECRET}
GITLAB_SIGNED = {"scheme": "gitlab", "secret": SIGNING}


def test_gitlab_token() -> None:
    assert fault_of(GITLAB, Signed(BODY, {"x-gitlab-token": SECRET}), NOW) is None
    assert refused(GITLAB, Signed(BODY, {"x-gitlab-token": SECRET + "x"}), NOW) is Fault.WRONG_TOKEN
    assert refused(GITLAB, Signed(BODY, {"x-gitlab-token": "\udcff"}), NOW) is Fault.WRONG_TOKEN
    assert refused(GITLAB, Signed(BODY, {}), NOW) is Fault.MISSING_HEADER


def test_gitlab_signing_token() -> None:
    headers = signed_headers(BODY, "908a6d9e-45fd", NOW)

    assert fault_of(GITLAB_SIGNED, Signed(BODY, headers), NOW) is None
    assert refused(GITLAB_SIGNED, Signed(BODY + b" ", headers), NOW) is Fault.WRONG_SIGNATURE
    assert refused(GITLAB_SIGNED, Signed(BODY, headers), NOW + timedelta(seconds=301)) is (
        Fault.STALE_TIMESTAMP
    )


def test_gitlab_signing_token_is_not_taken_as_a_plain_one() -> None:
    assert refused(GITLAB_SIGNED, Signed(BODY, {"x-gitlab-token": SIGNING}), NOW) is Fault.MISSING_HEADER


def test_gitlab_hook_may_go_over_from_the_one_to_the_other() -> None:
    both = {"scheme": "gitlab", "secrets": [SECRET, SIGNING]}
    signed = signed_headers(BODY, "908a6d9e-45fd", NOW)

    assert fault_of(both, Signed(BODY, {"x-gitlab-token": SECRET}), NOW) is None
    assert fault_of(both, Signed(BODY, signed), NOW) is None
    assert refused(both, Signed(b"", signed), NOW) is Fault.WRONG_SIGNATURE
    assert refused(both, Signed(b"", {"x-gitlab-token": OTHER}), NOW) is Fault.WRONG_TOKEN


# All of them

Made = Mapping[str, str]
PROVIDERS: dict[str, Any] = {
    "github": lambda secret: github_headers(secret, BODY, "72d3162e-cc78"),
    "stripe": lambda secret: stripe_headers(secret, BODY, NOW),
    "slack": lambda secret: slack_headers(secret, BODY, NOW),
    "shopify": lambda secret: shopify_headers(secret, BODY, "98880550-7158", "orders/create"),
    "gitlab": lambda secret: {"X-Gitlab-Token": secret, "Idempotency-Key": "908a6d9e-45fd"},
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_live_secret_counts_and_an_ended_one_does_not(name: str) -> None:
    old = {"secret": SECRET, "not_after": "2024-03-01T12:00:00Z"}
    rotation = {"scheme": name, "secrets": [old, {"secret": OTHER}]}
    by_old, by_new = (Signed(BODY, lowered(PROVIDERS[name](secret))) for secret in (SECRET, OTHER))

    assert fault_of(rotation, by_old, NOW) is None
    assert fault_of(rotation, by_new, NOW) is None
    later = NOW + timedelta(seconds=1)
    assert refused(rotation, by_old, later) in (Fault.WRONG_SIGNATURE, Fault.WRONG_TOKEN)
    assert fault_of(rotation, by_new, later) is None
    assert refused({"scheme": name, "secret": old}, by_old, later) is Fault.EXPIRED_SECRETS


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_header_of_a_signature_is_wanted(name: str) -> None:
    scheme = build_scheme({"scheme": name, "secret": SECRET})
    headers = lowered(PROVIDERS[name](SECRET))

    assert scheme.secret_headers
    for secret_header in scheme.secret_headers:
        rest = {key: value for key, value in headers.items() if key != secret_header}
        assert refused({"scheme": name, "secret": SECRET}, Signed(BODY, rest), NOW) is Fault.MISSING_HEADER


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_secret_of_a_provider_is_stored(name: str) -> None:
    scheme = build_scheme({"scheme": name, "secret": SECRET})
    stored = redacted(lowered(PROVIDERS[name](SECRET)), scheme.secret_headers)

    assert SECRET not in str(stored)
    assert SECRET not in repr(scheme)
    assert all(stored[header] == REDACTED for header in scheme.secret_headers)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("github", "72d3162e-cc78"),
        ("stripe", "evt_1"),
        ("slack", "Ev1"),
        ("shopify", "98880550-7158:orders/create"),
        ("gitlab", "908a6d9e-45fd"),
    ],
)
def test_provider_gives_the_key(name: str, key: str) -> None:
    scheme = build_scheme({"scheme": name, "secret": SECRET})

    found = scheme.delivery_id(lowered(PROVIDERS[name](SECRET)), {"id": "evt_1", "event_id": "Ev1"})
    assert found == key
    assert scheme.delivery_id({}, None) is None
    assert scheme.delivery_id({}, [1]) is None


def test_older_gitlab_gives_its_event_uuid() -> None:
    scheme = build_scheme(GITLAB)

    assert scheme.delivery_id({"x-gitlab-event-uuid": "13792a34"}, None) == "13792a34"


def test_gitlab_key_that_is_signed_comes_first() -> None:
    headers = {"webhook-id": "signed", "idempotency-key": "not signed"}

    assert build_scheme(GITLAB_SIGNED).delivery_id(headers, None) == "signed"


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("options", [{}, {"secret": ""}, {"secrets": []}, {"secret": 5}])
def test_provider_without_a_secret_is_a_fault(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(SchemeError, match="secret"):
        build_scheme({"scheme": name, **options})


@pytest.mark.parametrize("name", PROVIDERS)
def test_networks_and_headers_are_wanted_of_any_provider(name: str) -> None:
    options = {"scheme": name, "secret": SECRET, "allow": ["192.0.2.0/24"], "required_headers": ["X-Topic"]}
    headers = {**lowered(PROVIDERS[name](SECRET)), "x-topic": "a"}

    assert fault_of(options, Signed(BODY, headers, address="192.0.2.9"), NOW) is None
    assert fault_of(options, Signed(BODY, headers, address="::ffff:192.0.2.9"), NOW) is None
    assert refused(options, Signed(BODY, headers, address="198.51.100.1"), NOW) is Fault.FOREIGN_ADDRESS
    assert refused(options, Signed(BODY, headers, address=None), NOW) is Fault.FOREIGN_ADDRESS
    bare = {key: value for key, value in headers.items() if key != "x-topic"}
    assert refused(options, Signed(BODY, bare, address="192.0.2.9"), NOW) is Fault.MISSING_HEADER


def test_door_of_known_networks_that_asks_for_no_proof_is_open() -> None:
    for options in ({}, {"allow": ["192.0.2.0/24"]}, {"required_headers": ["x-topic"]}):
        assert build_scheme({"scheme": "none", **options}).is_open
        assert not build_scheme({**GITHUB, **options}).is_open
