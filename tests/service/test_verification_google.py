"""Google's identity tokens: who they are of and for, and where the certificates come from."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Undecided, Unverified
from service.intake.verify.registry import build_scheme
from tests.parts.google_tokens import AUDIENCE, EMAIL, Issuer, certificate_of, claims_at, issuing, token

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as made:
        yield made


def google(issuer: Issuer, **changed: Any) -> Scheme:
    options = {"scheme": "google_oidc", "audience": AUDIENCE, "email": EMAIL, "certificates": issuer.url}
    return build_scheme(options | changed)


def bearing(text: str) -> Signed:
    return Signed(b"", {"authorization": f"Bearer {text}"})


def fault_of(scheme: Scheme, signed: Signed, now: datetime = NOW) -> Fault:
    with pytest.raises(Unverified) as caught:
        scheme.verify(signed, now)
    return caught.value.fault


def test_good_token_is_accepted_and_the_certificates_are_fetched_once(issuer: Issuer) -> None:
    scheme = google(issuer)

    for minutes in range(0, 60, 10):
        now = NOW + timedelta(minutes=minutes)
        scheme.verify(bearing(token(claims_at(now))), now)
        scheme.verify(bearing(token(claims_at(now, iss="accounts.google.com"))), now)

    assert issuer.asked == 1
    assert scheme.secret_headers == {"authorization"}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"iss": "https://accounts.example.com"}, Fault.WRONG_ISSUER),
        ({"iss": None}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example.com"}, Fault.WRONG_AUDIENCE),
        ({"aud": [AUDIENCE]}, Fault.WRONG_AUDIENCE),
        ({"aud": None}, Fault.WRONG_AUDIENCE),
        ({"email": "other@project.iam.gserviceaccount.com"}, Fault.WRONG_EMAIL),
        ({"email": None}, Fault.WRONG_EMAIL),
        ({"email_verified": False}, Fault.WRONG_EMAIL),
        ({"email_verified": "true"}, Fault.WRONG_EMAIL),
        ({"email_verified": None}, Fault.WRONG_EMAIL),
        ({"exp": int(NOW.timestamp()) - 31}, Fault.STALE_TOKEN),
        ({"iat": int(NOW.timestamp()) + 31}, Fault.STALE_TOKEN),
        ({"exp": None}, Fault.MALFORMED_TOKEN),
        ({"iat": None}, Fault.MALFORMED_TOKEN),
        ({"exp": True}, Fault.MALFORMED_TOKEN),
        ({"exp": "never"}, Fault.MALFORMED_TOKEN),
        ({"exp": float("nan")}, Fault.MALFORMED_TOKEN),
        ({"exp": 10**400}, Fault.MALFORMED_TOKEN),
    ],
)
def test_token_that_says_something_else_is_refused_without_a_fetch(
    issuer: Issuer, changed: dict[str, Any], fault: Fault
) -> None:
    assert fault_of(google(issuer), bearing(token(claims_at(NOW, **changed)))) is fault
    assert issuer.asked == 0


def test_clocks_may_differ_a_little(issuer: Issuer) -> None:
    scheme = google(issuer)
    ended = claims_at(NOW - timedelta(seconds=3630))

    scheme.verify(bearing(token(ended)), NOW)
    scheme.verify(bearing(token(claims_at(NOW + timedelta(seconds=30)))), NOW)
    assert fault_of(scheme, bearing(token(ended)), NOW + timedelta(seconds=1)) is Fault.STALE_TOKEN
    google(issuer, tolerance=60).verify(bearing(token(ended)), NOW + timedelta(seconds=30))


def test_token_signed_by_another_key_is_refused(issuer: Issuer) -> None:
    header, claims, signature = token(claims_at(NOW)).split(".")
    forged = token(claims_at(NOW), key="two", kid="one")
    _, other_claims, _ = token(claims_at(NOW, sub="5678")).split(".")
    scheme = google(issuer)

    assert fault_of(scheme, bearing(forged)) is Fault.WRONG_SIGNATURE
    assert fault_of(scheme, bearing(f"{header}.{other_claims}.{signature}")) is Fault.WRONG_SIGNATURE
    assert fault_of(scheme, bearing(f"{header}.{claims}.{signature[:-4]}")) is Fault.WRONG_SIGNATURE
    assert fault_of(scheme, bearing(token(claims_at(NOW), key="two"))) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": ["RS256"]},
        {"kid": None},
        {"kid": 5},
        {"crit": ["exp"]},
    ],
)
def test_token_does_not_choose_how_it_is_checked(issuer: Issuer, header: dict[str, Any]) -> None:
    text = token(claims_at(NOW), **header)

    assert fault_of(google(issuer), bearing(text)) is Fault.MALFORMED_TOKEN
    assert issuer.asked == 0


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "é.é.é",
        "....",
        "A.A.A",
        f"{encoded(b'[]')}.{encoded(b'[]')}.AAAA",
        f"{encoded(b'{}')}.{encoded(b'5')}.AAAA",
        f"{encoded(b'[' * 3000)}.{encoded(b'{}')}.AAAA",
        f"{encoded(b'1' * 5000)}.{encoded(b'{}')}.AAAA",
        f"{encoded(bytes([255]))}.{encoded(b'{}')}.AAAA",
        "A" * 100_000 + ".A.A",
    ],
)
def test_text_that_is_no_token_is_refused(issuer: Issuer, text: str) -> None:
    assert fault_of(google(issuer), bearing(text)) is Fault.MALFORMED_TOKEN


def test_missing_token_is_refused(issuer: Issuer) -> None:
    assert fault_of(google(issuer), Signed(b"", {})) is Fault.MISSING_HEADER
    basic = Signed(b"", {"authorization": f"Basic {token(claims_at(NOW))}"})
    assert fault_of(google(issuer), basic) is Fault.MALFORMED_TOKEN


def test_several_audiences_and_accounts(issuer: Issuer) -> None:
    scheme = google(issuer, audience=["https://a", AUDIENCE], email=[EMAIL, "b@example.com"])

    scheme.verify(bearing(token(claims_at(NOW))), NOW)
    scheme.verify(bearing(token(claims_at(NOW, aud="https://a", email="b@example.com"))), NOW)


def test_certificates_are_fetched_again_when_they_are_too_old(issuer: Issuer) -> None:
    scheme = google(issuer)
    scheme.verify(bearing(token(claims_at(NOW))), NOW)
    later = NOW + timedelta(hours=1)

    issuer.keys = ["two"]

    assert fault_of(scheme, bearing(token(claims_at(later))), later) is Fault.WRONG_SIGNATURE
    scheme.verify(bearing(token(claims_at(later), key="two")), later)
    assert issuer.asked == 2


def test_new_key_is_found_but_strangers_cause_no_flood_of_fetches(issuer: Issuer) -> None:
    scheme = google(issuer)
    scheme.verify(bearing(token(claims_at(NOW))), NOW)
    issuer.keys = ["one", "two"]
    by_new = bearing(token(claims_at(NOW), key="two"))

    for _ in range(3):
        assert fault_of(scheme, by_new, NOW + timedelta(seconds=59)) is Fault.WRONG_SIGNATURE
    assert issuer.asked == 1

    scheme.verify(by_new, NOW + timedelta(seconds=61))
    assert issuer.asked == 2


@pytest.mark.parametrize("cache_control", ["no-store", "max-age=0", "", "max-age=soon"])
def test_certificates_that_may_not_be_kept_are_kept_a_minute(issuer: Issuer, cache_control: str) -> None:
    issuer.cache_control = cache_control
    scheme = google(issuer)

    for seconds in (0, 59, 61):
        now = NOW + timedelta(seconds=seconds)
        scheme.verify(bearing(token(claims_at(now))), now)

    assert issuer.asked == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"status": 500},
        {"status": 302},
        {"body": b"no JSON"},
        {"body": b"[]"},
        {"body": b'{"one": 5}'},
        {"body": json.dumps({"one": "no PEM"}).encode()},
        {"body": json.dumps({"one": certificate_of("one")}).encode() + b" " * 1_000_000},
    ],
)
def test_issuer_that_does_not_answer_leaves_it_undecided(issuer: Issuer, broken: dict[str, Any]) -> None:
    scheme, good = google(issuer), bearing(token(claims_at(NOW)))
    for name, value in broken.items():
        setattr(issuer, name, value)

    for _ in range(3):
        with pytest.raises(Undecided, match="the certificates at http"):
            scheme.verify(good, NOW)
    assert issuer.asked == 1  # a while passes before it is asked again

    issuer.status, issuer.body = 200, None
    scheme.verify(good, NOW + timedelta(seconds=6))


def test_nobody_at_the_address_of_the_certificates() -> None:
    with issuing() as gone:
        scheme = google(gone)

    with pytest.raises(Undecided):
        scheme.verify(bearing(token(claims_at(NOW))), NOW)


def test_many_threads_fetch_once(issuer: Issuer) -> None:
    scheme, good = google(issuer), bearing(token(claims_at(NOW)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: scheme.verify(good, NOW), range(32)))

    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"audience": None}, "`audience`"),
        ({"audience": [""]}, "`audience`"),
        ({"email": None}, "`email`"),
        ({"email": 5}, "`email`"),
        ({"certificates": "http://certs.example.com/x"}, "https"),
        ({"certificates": "file:///etc/passwd"}, "https"),
        ({"tolerance": 0}, "`tolerance`"),
    ],
)
def test_options_that_cannot_work_are_named(issuer: Issuer, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(SchemeError, match=words):
        google(issuer, **changed)
