"""Twilio: its published vectors, and bodies that nobody signed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from service.intake.verify.base import Fault, SchemeError, Signed
from service.intake.verify.registry import build_scheme
from tests.parts.verification import fault_of, refused, sign_base64

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
OPTIONS = {"scheme": "twilio", "secret": "12345"}
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
GOOD = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
REPEATED = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234"
JSON = b'{"property": "value", "boolean": true}'
JSON_URL = f"{URL}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
JSON_SIGNATURE = "a9nBmqA0ju/hNViExpshrM61xv4="


def form(signature: str, body: str | bytes = urlencode(FORM), url: str = URL) -> Signed:
    raw = body.encode() if isinstance(body, str) else body
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
        "x-twilio-signature": signature,
    }
    return Signed(raw, headers, url=url)


def json_signed(body: bytes = JSON, url: str = JSON_URL, signature: str = JSON_SIGNATURE) -> Signed:
    return Signed(body, {"content-type": "application/json", "x-twilio-signature": signature}, url=url)


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        (URL, GOOD),
        (URL.replace(".com", ".com:1234"), GOOD),  # signed without the port
        (URL, "kvajT1Ptam85bY51eRf/AJRuM3w="),  # signed with :443
        (URL.replace("https", "http").replace(".com", ".com:1234"), "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (URL.replace("https", "http"), "0ZXoZLH/DfblKGATFgpif+LLRf4="),  # signed with :80
    ],
)
def test_vectors_with_and_without_port(url: str, signature: str) -> None:
    assert fault_of(OPTIONS, form(signature, url=url), NOW) is None


def test_vector_with_a_repeated_parameter() -> None:
    assert fault_of(OPTIONS, form("IK+Dwps556ElfBT0I3Rgjkr1wJU=", REPEATED), NOW) is None


def test_vector_of_a_json_body() -> None:
    assert fault_of(OPTIONS, json_signed(), NOW) is None


def test_public_address_stands_in_for_the_one_behind_the_proxy() -> None:
    seen = form(GOOD, url="http://10.0.0.5:6789/internal?foo=1&bar=2")

    assert refused(OPTIONS, seen, NOW) is Fault.WRONG_SIGNATURE
    assert fault_of({**OPTIONS, "url": "https://mycompany.com/myapp.php"}, seen, NOW) is None
    with pytest.raises(SchemeError, match="public address"):
        build_scheme({**OPTIONS, "url": "mycompany.com"})


@pytest.mark.parametrize(
    "signed",
    [
        form(GOOD[:-2] + "9="),
        form(GOOD[:-1]),
        form("é"),
        form("\udcff"),
        form(GOOD, urlencode({**FORM, "Digits": "1235"})),
        form(GOOD, urlencode(FORM) + "&Extra=1"),
        form(GOOD, url=URL + "&more=1"),
        form(GOOD, url=URL.replace("https", "http")),
        form(GOOD, url="not an address"),
        form(GOOD, url=""),
        form(GOOD, "&".join(f"p{number}=1" for number in range(2000))),
        json_signed(url=JSON_URL + "0"),
        json_signed(signature=GOOD),
    ],
)
def test_anything_else_is_refused(signed: Signed) -> None:
    assert refused(OPTIONS, signed, NOW) is Fault.WRONG_SIGNATURE


def test_missing_signature_is_refused() -> None:
    assert refused(OPTIONS, Signed(b"", {}, url=URL), NOW) is Fault.MISSING_HEADER


def bare(url: str = URL) -> str:
    """Return a signature over the address alone, as of a request without a body."""
    return sign_base64("12345", url.encode(), "sha1")


@pytest.mark.parametrize(
    "signed",
    [
        json_signed(JSON + b" "),
        json_signed(b""),
        json_signed(url=URL, signature=bare()),
        json_signed(url=f"{JSON_URL}&bodySHA256=00", signature=bare(f"{JSON_URL}&bodySHA256=00")),
        form(bare(), b'{"json": "sent as a form"}'),
        form(bare(), b"no parameter at all"),
        form(bare(), b"\xff"),
        Signed(b"<xml/>", {"content-type": "text/xml", "x-twilio-signature": bare()}, url=URL),
        Signed(b"a=1", {"x-twilio-signature": bare()}, url=URL),
    ],
)
def test_body_that_the_signature_does_not_cover_is_refused(signed: Signed) -> None:
    assert refused(OPTIONS, signed, NOW) is Fault.UNSIGNED_BODY


def test_request_without_a_body_needs_no_digest() -> None:
    assert fault_of(OPTIONS, form(bare(), b""), NOW) is None
    assert fault_of(OPTIONS, json_signed(b"", URL, bare()), NOW) is None


def test_bytes_of_parameters_are_signed_as_they_are() -> None:
    body = "Body=%C3%BC+%F0%9F%8E%89&Empty="
    signature = sign_base64("12345", URL.encode() + "Bodyü 🎉Empty".encode(), "sha1")

    assert fault_of(OPTIONS, form(signature, body), NOW) is None
    assert refused(OPTIONS, form(signature, body.replace("%BC", "%BD")), NOW) is Fault.WRONG_SIGNATURE


def test_upper_case_digest_is_the_same_digest() -> None:
    url = f"{URL}&bodySHA256={hashlib.sha256(JSON).hexdigest().upper()}"

    assert fault_of(OPTIONS, json_signed(url=url, signature=bare(url)), NOW) is None


def test_several_tokens_until_their_end() -> None:
    rotation = {"scheme": "twilio", "secrets": ["new", {"secret": "12345", "not_after": "2024-03-01"}]}

    assert fault_of(rotation, form(GOOD), NOW) is None
    assert refused(rotation, form(GOOD), datetime(2024, 3, 2, tzinfo=UTC)) is Fault.WRONG_SIGNATURE


def test_key_is_the_idempotency_token_or_the_message_and_its_status() -> None:
    scheme = build_scheme(OPTIONS)
    message = {"MessageSid": "SM1", "MessageStatus": "sent"}

    assert scheme.delivery_id({"i-twilio-idempotency-token": "t"}, message) == "t"
    assert scheme.delivery_id({}, message) == "SM1:sent"
    assert scheme.delivery_id({}, {**message, "MessageStatus": "delivered"}) == "SM1:delivered"
    assert scheme.delivery_id({}, {"MessageSid": "SM1", "SmsStatus": "received"}) == "SM1:received"
    assert scheme.delivery_id({}, {"MessageSid": ["SM1", "SM2"], "MessageStatus": "sent"}) is None
    assert scheme.delivery_id({}, "text") is None
