"""Bodies as senders send them: read, or quarantined with the reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensors.payloads import MAX_DEPTH, Format, read_payload

JSON = "application/json"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        JSON,
        "application/cloudevents+json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "text/json",
    ],
)
def test_json_is_read(content_type: str | None) -> None:
    payload = read_payload('{"a": [1, "é", null, 1.5]}'.encode(), content_type)

    assert payload.data == {"a": [1, "é", None, 1.5]}
    assert payload.text == '{"a": [1, "é", null, 1.5]}'
    assert payload.raw is None
    assert payload.quarantine is None


def test_other_charsets_are_read_and_their_bytes_kept() -> None:
    body = '{"name": "Müller"}'.encode("latin-1")

    payload = read_payload(body, "application/json; charset=iso-8859-1")

    assert payload.data == {"name": "Müller"}
    assert payload.raw == body


def test_byte_order_mark_is_skipped() -> None:
    payload = read_payload(b"\xef\xbb\xbf{}", JSON)

    assert (payload.data, payload.raw) == ({}, b"\xef\xbb\xbf{}")


def test_empty_body_is_no_data() -> None:
    assert read_payload(b"", JSON).data is None
    assert read_payload(b"", JSON).quarantine is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "the body is not JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b"[1e400]", "the number 1e400 is too large"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice in one object"),
        (b'{"a": "\\u0000"}', "a text holds the character NUL"),
        (b'{"\\u0000": 1}', "a text holds the character NUL"),
        (b'["\\ud800"]', "a text holds half of a surrogate pair"),
        (b'["\\uDFFF x"]', "a text holds half of a surrogate pair"),
        (b"\xff\xfe{}", "the body is not utf-8: byte 0 cannot be read"),
        (b"9" * 5000, "the JSON has an integer of too many digits"),
        (b"[" * 100_000, f"the JSON is nested more than {MAX_DEPTH} deep"),
        (b"[" * 101 + b"]" * 101, f"the JSON is nested more than {MAX_DEPTH} deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, f"the JSON is nested more than {MAX_DEPTH} deep"),
    ],
)
def test_poison_is_quarantined(body: bytes, reason: str) -> None:
    payload = read_payload(body, JSON)

    assert payload.quarantine == reason
    assert payload.raw == body
    assert payload.data is None
    assert payload.text is None


@pytest.mark.parametrize(
    "body",
    [
        b'["\\\\u0000"]',
        b'["\\ud83d\\ude00"]',
        b"[" * 100 + b"]" * 100,
        b"[" + b"{}," * 500 + b"{}]",
        b"1e308",
    ],
)
def test_what_only_looks_like_poison_is_read(body: bytes) -> None:
    payload = read_payload(body, JSON)

    assert payload.quarantine is None
    assert payload.data == json.loads(body)


def test_form_is_read() -> None:
    payload = read_payload(b"a=1&b=x+y&b=%C3%A9&c=", "application/x-www-form-urlencoded")

    assert payload.data == {"a": "1", "b": ["x y", "é"], "c": ""}
    assert payload.raw is not None


def test_json_that_is_called_a_form_is_json() -> None:
    assert read_payload(b' {"a": 1}', "application/x-www-form-urlencoded").data == {"a": 1}


@pytest.mark.parametrize("body", [b"a=%00", b"&".join(b"a=1" for _ in range(1001)), b"no equals sign"])
def test_poisoned_form_is_quarantined(body: bytes) -> None:
    assert read_payload(body, "application/x-www-form-urlencoded").quarantine is not None


def test_text_is_one_text() -> None:
    assert read_payload(b"a,b\n1,2\n", "text/csv").data == "a,b\n1,2\n"
    assert read_payload(b"[1]", JSON, Format.TEXT).data == "[1]"
    assert read_payload(b"[1]", "text/plain", Format.JSON).data == [1]


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("image/png", ""),
        ("application/json; charset=klingon", ""),
        ("multipart/form-data", ""),
        (JSON, "gzip"),
    ],
)
def test_what_is_not_supported_is_quarantined(content_type: str, encoding: str) -> None:
    payload = read_payload(b"{}", content_type, encoding=encoding)

    assert payload.quarantine is not None
    assert payload.raw == b"{}"


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.recursive(st.none(), st.lists).map(lambda x: str(x).encode()),
    ),
    st.one_of(
        st.none(), st.text(), st.sampled_from([JSON, "text/plain; charset=utf-16", "a/b+json;charset=ascii"])
    ),
    st.sampled_from(Format),
    st.one_of(st.just(""), st.text()),
)
@example(b"\xfe\xff\xd8\x00", "text/plain; charset=utf-16", Format.AUTO, "")
def test_no_body_raises(body: bytes, content_type: str | None, form: Format, encoding: str) -> None:
    payload = read_payload(body, content_type, form, encoding)

    if payload.quarantine is None:
        assert json.loads(payload.text or "null") == payload.data
    else:
        assert payload.raw == body
        assert "\x00" not in payload.quarantine
