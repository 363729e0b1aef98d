"""Standard Webhooks: the published vectors, what the specification refuses, and what senders get wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.intake.verify.base import Fault, SchemeError, Signed, Unverified
from service.intake.verify.registry import build_scheme

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = datetime.fromtimestamp(1614265330, UTC)
GOOD = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": GOOD,
}
PUBLIC_KEY = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
GOOD_V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
# The RFC 8032 order of the curve: adding it to the second half gives another signature of the same text.
ORDER = 2**252 + 27742317777372353535851937790883648493


def check(
    headers: Mapping[str, str] = HEADERS,
    *,
    body: bytes = BODY,
    now: datetime = NOW,
    **options: Any,
) -> None:
    scheme = build_scheme({"scheme": "standard_webhooks", "secret": SECRET, **options})
    scheme.verify(Signed(body, headers), now)


def fault_of(headers: Mapping[str, str] = HEADERS, **others: Any) -> Fault:
    with pytest.raises(Unverified) as caught:
        check(headers, **others)
    return caught.value.fault


def test_published_vector_is_accepted() -> None:
    check()


def test_vector_of_the_rust_library_is_accepted() -> None:
    check(
        {
            "webhook-id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "webhook-timestamp": "1649367553",
            "webhook-signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        },
        body=b'{"email":"test@example.com","username":"test_user"}',
        now=datetime.fromtimestamp(1649367553, UTC),
        secret="whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    )


def test_asymmetric_vector_is_accepted() -> None:
    check({**HEADERS, "webhook-signature": GOOD_V1A}, secret=PUBLIC_KEY)


def test_both_kinds_of_keys_work_side_by_side() -> None:
    options: dict[str, Any] = {"secret": None, "secrets": [PUBLIC_KEY, SECRET]}

    check(**options)
    check({**HEADERS, "webhook-signature": GOOD_V1A}, **options)


def test_signature_without_prefixed_secret_is_accepted() -> None:
    check(secret=SECRET.removeprefix("whsec_"))


@pytest.mark.parametrize("secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr"])
def test_unpadded_secret_is_read(secret: str) -> None:
    assert fault_of(secret=secret) is Fault.WRONG_SIGNATURE


def test_good_signature_among_decoys_is_found() -> None:
    decoys = f"v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,{GOOD[3:]} {GOOD}"

    check({**HEADERS, "webhook-signature": decoys})


@pytest.mark.parametrize(
    "signature",
    [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",  # the same bytes, spelled otherwise
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE",
        "v1,",
        "v1,g0hM9SsE",
        "v1",
        ",",
        "v1,not base64",
        "v1,\xe9\xff",
        "v1,\udcff",
        GOOD_V1A,
        GOOD[3:],
        "v2," + GOOD[3:],
        GOOD + "," + GOOD,  # the header given twice
        " ".join(["v1,AAAA"] * 10_000) + " " + GOOD,
    ],
)
def test_other_signatures_are_refused(signature: str) -> None:
    assert fault_of({**HEADERS, "webhook-signature": signature}) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize(
    "signature",
    ["v1a," + GOOD_V1A[4:-4] + "AA==", "v1a,AAAA", "v1a,", "v1a,\xe9", GOOD, "v1a," + "A" * 200],
)
def test_other_asymmetric_signatures_are_refused(signature: str) -> None:
    found = fault_of({**HEADERS, "webhook-signature": signature}, secret=PUBLIC_KEY)

    assert found is Fault.WRONG_SIGNATURE


def test_second_spelling_of_an_asymmetric_signature_is_refused() -> None:
    raw = base64.b64decode(GOOD_V1A[4:])
    other = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    signature = "v1a," + base64.b64encode(other).decode()

    assert fault_of({**HEADERS, "webhook-signature": signature}, secret=PUBLIC_KEY) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize("name", list(HEADERS))
def test_missing_header_is_refused(name: str) -> None:
    headers = {key: value for key, value in HEADERS.items() if key != name}

    assert fault_of(headers) is Fault.MISSING_HEADER
    assert fault_of({**headers, name: ""}) is Fault.MISSING_HEADER


@pytest.mark.parametrize("away", [timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)])
def test_time_out_of_the_window_is_refused_on_both_sides(away: timedelta) -> None:
    assert fault_of(now=NOW + away) is Fault.STALE_TIMESTAMP


def test_window_can_be_widened() -> None:
    check(now=NOW + timedelta(hours=1), tolerance=3601)


@pytest.mark.parametrize(
    "timestamp",
    [
        "1614265330.5",
        " 1614265330",
        "1_614_265_330",
        "-1",
        "+1614265330",
        "9" * 400,
        "1e9",
        "١٦١٤٢٦٥٣٣٠",
        "now",
    ],
)
def test_anything_but_digits_is_no_timestamp(timestamp: str) -> None:
    assert fault_of({**HEADERS, "webhook-timestamp": timestamp}) is Fault.MALFORMED_TIMESTAMP


@pytest.mark.parametrize("message_id", ["msg.1", "msg 1", "\xe9", "x" * 300, "a\x00b"])
def test_id_that_makes_the_signed_text_ambiguous_is_refused(message_id: str) -> None:
    assert fault_of({**HEADERS, "webhook-id": message_id}) is Fault.MALFORMED_HEADER


def test_other_body_is_refused() -> None:
    assert fault_of(body=b'{"test": 2432232315}') is Fault.WRONG_SIGNATURE
    assert fault_of(body=b"\xff\xfe not utf-8") is Fault.WRONG_SIGNATURE


def test_secret_counts_until_its_end() -> None:
    rotation: dict[str, Any] = {"secret": None, "secrets": [{"secret": SECRET, "not_after": "2021-02-25"}]}

    check(**rotation)

    assert (
        fault_of(secret=None, secrets=[{"secret": SECRET, "not_after": "2021-02-24"}])
        is Fault.EXPIRED_SECRETS
    )


@pytest.mark.parametrize(
    "options",
    [
        {"secret": ""},
        {"secret": None},
        {"secret": "whsec_"},
        {"secret": "whsec_***"},
        {"secret": "whpk_AAAA"},
        {"secret": 5},
        {"secrets": "x"},
        {"tolerance": 0},
        {"tolerance": -5},
        {"tolerance": True},
        {"secret": {"secret": SECRET, "not_after": "soon"}},
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(SchemeError) as caught:
        check(**options)

    assert SECRET not in str(caught.value)


def test_delivery_id_is_the_webhook_id() -> None:
    scheme = build_scheme({"scheme": "standard_webhooks", "secret": SECRET})

    assert scheme.delivery_id(HEADERS, None) == HEADERS["webhook-id"]
