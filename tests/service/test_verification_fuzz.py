"""Whatever a sender sends, every scheme answers yes, or with a fault of the closed set."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.intake.verify.base import Scheme, Signed, Undecided, Unverified
from service.intake.verify.certificates import Certificates, Published
from service.intake.verify.google_oidc import GoogleOidc
from service.intake.verify.registry import SCHEMES, build_scheme
from tests.parts.google_tokens import AUDIENCE, EMAIL, certificate_of, claims_at, token

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "token": {"query": "key"},
    "basic": {"username": "u"},
    "hmac": {
        "header": "sig",
        "separator": ",",
        "prefix": "v=",
        "content": "{ts}{id}{url}{header:when}{body}",
        "timestamp_header": "when",
        "timestamp_unit": "iso",
        "id_header": "id",
        "allow": ["10.0.0.0/8"],
        "required_headers": ["id"],
    },
    "standard_webhooks": {"secrets": [SIGNING, PUBLIC], "secret": None},
    "gitlab": {"secrets": [SIGNING, "plain"]},
    "google_oidc": {"audience": AUDIENCE, "email": EMAIL, "secret": None},
}
HEADERS = [
    "authorization",
    "sig",
    "id",
    "when",
    "content-type",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-hub-signature-256",
    "x-github-delivery",
    "stripe-signature",
    "x-slack-signature",
    "x-slack-request-timestamp",
    "x-shopify-hmac-sha256",
    "x-shopify-event-id",
    "x-shopify-topic",
    "x-gitlab-token",
    "x-gitlab-event-uuid",
    "idempotency-key",
    "x-twilio-signature",
    "i-twilio-idempotency-token",
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(
        [
            "Bearer x",
            "Bearer a.b.c",
            "Bearer e30.e30.e30",
            f"Bearer {token(claims_at(NOW))}",
            f"Bearer {token(claims_at(NOW), kid='other')}",
            f"Bearer {token(claims_at(NOW, exp=10**4000))}",
            "Basic Og==",
            "Basic =",
            "v1,",
            "v1a,AAAA v1,BBBB",
            "v=0,v=é",
            "t=1709294400,v1=00",
            "t=,t=",
            "sha256=00",
            "1709294400",
            "9" * 16,
            "9" * 400,
            "2024-03-01T12:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "application/x-www-form-urlencoded",
            "https://h:99999999999999/x?bodySHA256=00&bodySHA256",
            "https://[::1]:/?%ff",
            "10.1.2.3",
            "::ffff:10.0.0.1%eth0",
        ]
    ),
)
BODIES = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b'{"type": "url_verification", "challenge": "x"}',
            b'{"type": "url_verification", "challenge": ' + b"[" * 3000,
            b'{"type": "url_verification", "challenge": "\\ud800"}',
            b"a=%ff&b=%00&=&a",
            b"a=1&a=1",
            b"url_verification" + b"9" * 4000,
        ]
    ),
)
DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["id", "event_id", "MessageSid", "MessageStatus", "SmsStatus"]), inner
        ),
    ),
    max_leaves=4,
)


def fetched(url: str) -> Published:
    return Published(f'{{"one": {certificate_of("one")!r}}}'.replace("'", '"').encode(), timedelta(hours=1))


def gone(url: str) -> Published:
    raise OSError("nobody there")


def every_scheme() -> list[Any]:
    built: list[tuple[str, Scheme]] = [
        (name, build_scheme({"scheme": name, "secret": "c2VjcmV0", **OPTIONS.get(name, {})}))
        for name in SCHEMES
    ]
    known = [(name, scheme) for name, scheme in built if name != "google_oidc"]
    certificates = Certificates("https://certs.example.com", fetched)
    known.append(("google_oidc", GoogleOidc((AUDIENCE,), (EMAIL,), certificates)))
    certificates = Certificates("https://certs.example.com", gone)
    known.append(("google_oidc_gone", GoogleOidc((AUDIENCE,), (EMAIL,), certificates)))
    return [pytest.param(scheme, id=name) for name, scheme in known]


@pytest.mark.parametrize("scheme", every_scheme())
def test_nothing_a_sender_sends_raises_anything_else(scheme: Scheme) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        BODIES,
        st.dictionaries(st.sampled_from(HEADERS), TEXTS, max_size=8),
        st.dictionaries(st.just("key"), TEXTS),
        TEXTS,
        st.none() | TEXTS,
        DATA,
    )
    @example(b"", {"authorization": f"Bearer {token(claims_at(NOW))}"}, {}, "", None, None)
    def send(
        body: bytes,
        headers: dict[str, str],
        query: dict[str, str],
        url: str,
        address: str | None,
        data: Any,
    ) -> None:
        with suppress(Unverified, Undecided):
            scheme.verify(Signed(body, headers, url=url, query=query, address=address), NOW)
        assert isinstance(scheme.delivery_id(headers, data), str | None)
        assert isinstance(scheme.challenge(body), str | None)

    send()
