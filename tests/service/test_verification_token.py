"""The token scheme: a secret that the sender repeats."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from service.intake.verify.base import Fault, Scheme, SchemeError, Signed, Unverified
from service.intake.verify.registry import build_scheme

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
TOKEN = "t0ken-é"


def fault_of(scheme: Scheme, signed: Signed) -> Fault:
    with pytest.raises(Unverified) as caught:
        scheme.verify(signed, NOW)
    return caught.value.fault


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_bearer_is_accepted(value: str) -> None:
    build_scheme({"scheme": "token", "secret": TOKEN}).verify(Signed(b"", {"authorization": value}), NOW)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("Bearer other", Fault.WRONG_TOKEN),
        ("Bearer ", Fault.WRONG_TOKEN),
        (f"Bearer {TOKEN}x", Fault.WRONG_TOKEN),
        (f"Bearer {TOKEN[:-1]}", Fault.WRONG_TOKEN),
        (f"Basic {TOKEN}", Fault.MISSING_HEADER),
        (TOKEN, Fault.MISSING_HEADER),
        ("Bearer \udcff", Fault.WRONG_TOKEN),
    ],
)
def test_other_authorizations_are_refused(value: str, fault: Fault) -> None:
    scheme = build_scheme({"scheme": "token", "secret": TOKEN})

    assert fault_of(scheme, Signed(b"", {"authorization": value})) is fault


def test_token_may_be_in_a_header_of_its_own() -> None:
    scheme = build_scheme({"scheme": "token", "secret": TOKEN, "header": "X-Gitlab-Token"})

    scheme.verify(Signed(b"", {"x-gitlab-token": TOKEN}), NOW)

    assert scheme.secret_headers == {"x-gitlab-token"}
    assert fault_of(scheme, Signed(b"", {"authorization": f"Bearer {TOKEN}"})) is Fault.MISSING_HEADER


def test_token_may_be_in_the_query() -> None:
    scheme = build_scheme({"scheme": "token", "secret": TOKEN, "query": "key"})

    scheme.verify(Signed(b"", {}, query={"key": TOKEN}), NOW)

    assert fault_of(scheme, Signed(b"", {}, query={"token": TOKEN})) is Fault.MISSING_HEADER


def test_each_of_several_tokens_is_accepted() -> None:
    scheme = build_scheme({"scheme": "token", "secrets": ["old", {"secret": "new", "not_after": None}]})

    for token in ("old", "new"):
        scheme.verify(Signed(b"", {"authorization": f"Bearer {token}"}), NOW)


def test_secrets_stay_out_of_representations() -> None:
    for name in ("token", "hmac", "standard_webhooks"):
        scheme = build_scheme({"scheme": name, "secret": "c2VjcmV0", "header": "x"})

        assert "c2VjcmV0" not in repr(scheme)
        assert "secret'" not in repr(scheme)


@pytest.mark.parametrize("verify", ["basic", {"scheme": None}, {}, {"scheme": ["token"]}, "token"])
def test_scheme_that_is_unknown_or_lacks_its_secret_is_named(verify: Any) -> None:
    with pytest.raises(SchemeError):
        build_scheme(verify)
