"""Basic authentication: the name and the password, and no other spelling of them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from service.intake.verify.base import Fault, SchemeError, Signed
from service.intake.verify.registry import build_scheme
from tests.parts.verification import fault_of, refused

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
OPTIONS = {"scheme": "basic", "username": "partner", "secret": "pass:wörd"}


def header(text: str | bytes, word: str = "Basic") -> Signed:
    raw = text if isinstance(text, bytes) else text.encode()
    return Signed(b"", {"authorization": f"{word} {base64.b64encode(raw).decode()}"})


@pytest.mark.parametrize("word", ["Basic", "basic", "BASIC "])
def test_name_and_password(word: str) -> None:
    assert fault_of(OPTIONS, header("partner:pass:wörd", word), NOW) is None


@pytest.mark.parametrize(
    "text",
    ["partner:pass:word", "partner:", "partner", ":pass:wörd", "Partner:pass:wörd", "", b"\xff\xfe:\xff"],
)
def test_other_name_or_password_is_refused(text: str | bytes) -> None:
    assert refused(OPTIONS, header(text), NOW) is Fault.WRONG_PASSWORD


@pytest.mark.parametrize(
    "value", ["Basic !", "Basic cGFydG5lcg", "Bearer x", "partner", "Basic é", "Basic \udcff"]
)
def test_header_that_cannot_be_read_is_refused(value: str) -> None:
    assert refused(OPTIONS, Signed(b"", {"authorization": value}), NOW) is Fault.MALFORMED_HEADER


def test_missing_header_is_refused() -> None:
    assert refused(OPTIONS, Signed(b"", {}), NOW) is Fault.MISSING_HEADER


def test_several_passwords_until_their_end() -> None:
    rotation = {
        "scheme": "basic",
        "username": "partner",
        "secrets": ["new", {"secret": "old", "not_after": "2024-03-01"}],
    }

    for password in ("new", "old"):
        assert fault_of(rotation, header(f"partner:{password}"), NOW) is None
    assert refused(rotation, header("partner:old"), datetime(2024, 3, 2, tzinfo=UTC)) is Fault.WRONG_PASSWORD


@pytest.mark.parametrize(
    "changed", [{"username": None}, {"username": "a:b"}, {"username": 5}, {"secret": None}]
)
def test_options_that_cannot_work_are_named(changed: dict[str, Any]) -> None:
    with pytest.raises(SchemeError):
        build_scheme(OPTIONS | changed)
