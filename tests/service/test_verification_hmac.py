"""The generic HMAC scheme, held against what GitHub, Slack and others send."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.intake.verify.base import Fault, SchemeError, Signed, Unverified
from service.intake.verify.registry import build_scheme

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
GITHUB = {
    "scheme": "hmac",
    "secret": "It's a Secret to Everybody",
    "header": "X-Hub-Signature-256",
    "prefix": "sha256=",
    "id_header": "X-GitHub-Delivery",
}
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def check(options: Mapping[str, Any], signed: Signed, now: datetime = NOW) -> None:
    build_scheme(options).verify(signed, now)


def fault_of(options: Mapping[str, Any], signed: Signed, now: datetime = NOW) -> Fault:
    with pytest.raises(Unverified) as caught:
        check(options, signed, now)
    return caught.value.fault


def sign(key: bytes, content: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(key, content, getattr(hashlib, algorithm)).digest()


def test_github_vector_is_accepted() -> None:
    check(GITHUB, Signed(b"Hello, World!", {"x-hub-signature-256": GITHUB_SIGNATURE}))


@pytest.mark.parametrize(
    "signature",
    [
        GITHUB_SIGNATURE[:-1] + "8",
        GITHUB_SIGNATURE[7:],
        "sha256=",
        "sha1=" + GITHUB_SIGNATURE[7:],
        "\xe9",
        "\udcff",
    ],
)
def test_other_signatures_are_refused(signature: str) -> None:
    signed = Signed(b"Hello, World!", {"x-hub-signature-256": signature})

    assert fault_of(GITHUB, signed) is Fault.WRONG_SIGNATURE


def test_missing_signature_is_refused() -> None:
    assert fault_of(GITHUB, Signed(b"Hello, World!", {})) is Fault.MISSING_HEADER


def test_slack_content_and_window() -> None:
    options = {
        "scheme": "hmac",
        "secret": "8f742231b10e8888abcd99yyyzzz85a5",
        "header": "X-Slack-Signature",
        "prefix": "v0=",
        "content": "v0:{ts}:{body}",
        "timestamp_header": "X-Slack-Request-Timestamp",
    }
    stamp = str(int(NOW.timestamp()))
    digest = sign(b"8f742231b10e8888abcd99yyyzzz85a5", f"v0:{stamp}:a=1".encode()).hex()
    signed = Signed(b"a=1", {"x-slack-signature": f"v0={digest}", "x-slack-request-timestamp": stamp})

    check(options, signed)
    check(options, signed, NOW + timedelta(minutes=5))

    assert fault_of(options, signed, NOW + timedelta(minutes=5, seconds=1)) is Fault.STALE_TIMESTAMP
    assert fault_of(options, signed, NOW - timedelta(minutes=5, seconds=1)) is Fault.STALE_TIMESTAMP


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
@pytest.mark.parametrize("secret_encoding", ["raw", "base64", "hex"])
def test_algorithms_and_encodings(algorithm: str, encoding: str, secret_encoding: str) -> None:
    key = b"\x00\xff secret key of mine"
    key = b"a plain secret" if secret_encoding == "raw" else key
    spelled = {"raw": key.decode("latin-1"), "base64": base64.b64encode(key).decode(), "hex": key.hex()}
    digest = sign(key, b"body", algorithm)
    shown = {
        "hex": digest.hex().upper(),
        "base64": base64.b64encode(digest).decode(),
        "base64url": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    options = {
        "scheme": "hmac",
        "secret": spelled[secret_encoding],
        "secret_encoding": secret_encoding,
        "algorithm": algorithm,
        "encoding": encoding,
        "header": "X-Sig",
    }

    check(options, Signed(b"body", {"x-sig": shown[encoding]}))


def test_several_signatures_and_several_secrets() -> None:
    options = {
        "scheme": "hmac",
        "secrets": ["old", "new"],
        "header": "sig",
        "separator": ",",
        "prefix": "v1=",
    }
    good = sign(b"new", b"body").hex()

    check(options, Signed(b"body", {"sig": f"v0=x, v1={'0' * 64}, v1={good}"}))

    assert fault_of(options, Signed(b"body", {"sig": f"v0={good}"})) is Fault.WRONG_SIGNATURE


def test_url_id_and_headers_can_be_signed() -> None:
    options = {
        "scheme": "hmac",
        "secret": "s",
        "header": "sig",
        "id_header": "X-Id",
        "content": "{id}|{url}|{header:X-Topic}|{body}",
    }
    digest = sign(b"s", b"7|https://h/x?y=1|orders|\xff").hex()
    headers = {"sig": digest, "x-id": "7", "x-topic": "orders"}

    check(options, Signed(b"\xff", headers, url="https://h/x?y=1"))

    other = Signed(b"\xff", {**headers, "x-topic": "refunds"}, url="https://h/x?y=1")
    assert fault_of(options, other) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize(
    ("unit", "text"), [("s", "1709294400"), ("ms", "1709294400000"), ("iso", "2024-03-01T13:00:00+01:00")]
)
def test_units_of_timestamps(unit: str, text: str) -> None:
    options = {
        "scheme": "hmac",
        "secret": "s",
        "header": "sig",
        "timestamp_header": "when",
        "timestamp_unit": unit,
        "tolerance": 1,
        "content": "{ts}.{body}",
    }

    check(options, Signed(b"", {"sig": sign(b"s", f"{text}.".encode()).hex(), "when": text}))


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+23:5",
        "2024-03-01T13:00:00",
        "2024-03-01T99:00:00Z",
        "2024-03-01T1::::0Z",
        "soon",
        "1",
    ],
)
def test_time_that_is_none_is_refused(text: str) -> None:
    options = {
        "scheme": "hmac",
        "secret": "s",
        "header": "sig",
        "timestamp_header": "when",
        "timestamp_unit": "iso",
        "content": "{ts}.{body}",
    }
    signed = Signed(b"", {"sig": sign(b"s", f"{text}.".encode()).hex(), "when": text})

    assert fault_of(options, signed) is Fault.MALFORMED_TIMESTAMP


def test_required_headers_and_addresses() -> None:
    options = {
        "scheme": "hmac",
        "secret": "s",
        "header": "sig",
        "required_headers": ["X-Topic"],
        "allow": ["192.0.2.0/24", "2001:db8::1"],
    }
    headers = {"sig": sign(b"s", b"").hex(), "x-topic": "a"}

    check(options, Signed(b"", headers, address="192.0.2.77"))
    check(options, Signed(b"", headers, address="2001:db8::1"))

    assert fault_of(options, Signed(b"", headers, address="192.0.3.1")) is Fault.FOREIGN_ADDRESS
    assert fault_of(options, Signed(b"", headers)) is Fault.FOREIGN_ADDRESS
    bare = Signed(b"", {"sig": headers["sig"]}, address="192.0.2.77")
    assert fault_of(options, bare) is Fault.MISSING_HEADER


def test_delivery_id_comes_from_a_header_or_from_the_body() -> None:
    by_header = build_scheme(GITHUB)
    by_path = build_scheme({**GITHUB, "id_header": None, "id_path": "event.id"})

    assert by_header.delivery_id({"x-github-delivery": "guid"}, None) == "guid"
    assert by_path.delivery_id({}, {"event": {"id": 7}}) == "7"
    assert by_path.delivery_id({}, {"event": []}) is None


@pytest.mark.parametrize(
    "options",
    [
        {"header": None},
        {"secret": None},
        {"algorithm": "md5"},
        {"encoding": "base32"},
        {"secret_encoding": "rot13"},
        {"secret_encoding": "hex"},
        {"content": "{ts}"},
        {"content": "{ts}.{body}"},
        {"content": "{id}.{body}", "id_header": None},
        {"content": "{nonsense}{body}"},
        {"timestamp_header": "when"},
        {"timestamp_unit": "weeks"},
        {"allow": ["everywhere"]},
        {"required_headers": 5},
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, object]) -> None:
    with pytest.raises(SchemeError) as caught:
        build_scheme({**GITHUB, **options})

    assert GITHUB["secret"] not in str(caught.value)


ITEMS = {
    "scheme": "hmac",
    "secret": "s",
    "header": "Paddle-Signature",
    "separator": ";",
    "prefix": "h1=",
    "timestamp_prefix": "ts=",
    "content": "{ts}:{body}",
}


def test_time_may_stand_among_the_signatures() -> None:
    stamp = str(int(NOW.timestamp()))
    good = sign(b"s", f"{stamp}:body".encode()).hex()

    check(ITEMS, Signed(b"body", {"paddle-signature": f"ts={stamp};h1={good}"}))

    assert fault_of(ITEMS, Signed(b"body", {"paddle-signature": f"h1={good}"})) is Fault.MALFORMED_TIMESTAMP
    late = Signed(b"body", {"paddle-signature": f"ts={int(stamp) - 301};h1={good}"})
    assert fault_of(ITEMS, late) is Fault.STALE_TIMESTAMP
    with pytest.raises(SchemeError, match="separator"):
        build_scheme({**ITEMS, "separator": None})


def test_several_headers_may_name_a_delivery() -> None:
    scheme = build_scheme({**GITHUB, "id_header": ["X-GitHub-Delivery", "X-GitHub-Event"]})

    assert scheme.delivery_id({"x-github-delivery": "1", "x-github-event": "push"}, None) == "1:push"
    assert scheme.delivery_id({"x-github-delivery": "1"}, None) is None


def test_signed_address_is_the_public_one() -> None:
    options = {"scheme": "hmac", "secret": "s", "header": "sig", "content": "{url}{body}"}
    signed = Signed(
        b"", {"sig": sign(b"s", b"https://public.example/a?b=1").hex()}, url="http://inside/x?b=1"
    )

    assert fault_of(options, signed) is Fault.WRONG_SIGNATURE
    check({**options, "url": "https://public.example/a"}, signed)
