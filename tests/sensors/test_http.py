"""What is peculiar to the http sensor, and what may not be fetched."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sensors.base import Cursor, Existing, ExistingRule, OptionsError, SensorError, TickContext
from sensors.event import Event
from sensors.fetch import Request, fetch, refuse_private
from sensors.http import HttpSensor
from sensors.json_path import PathError, parse_path, values_at
from tests.parts.http_site import HttpSite

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}


@dataclass
class Watch:
    """A trigger that watches a path of the site."""

    site: HttpSite
    path: str = "/news"
    cursor: Cursor = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def tick(self, **changes: Any) -> list[Event]:
        wanted = {"url": self.site.url + self.path, "allow_private": True, **self.options, **changes}
        context = TickContext("http:a/b", NOW, Path(), Existing(ExistingRule.TRIGGER))
        found: list[Event] = []
        for page in HttpSensor.configure(wanted).tick(self.cursor, context):
            found += page.events
            self.cursor = page.cursor
        return found


@pytest.fixture
def watch(http_site: HttpSite) -> Watch:
    return Watch(http_site)


def test_change_of_a_resource_is_one_event(watch: Watch) -> None:
    watch.site.serve("/news", b'{"version": 1}', JSON)
    (first,) = watch.tick()
    assert watch.tick() == []

    watch.site.serve("/news", b'{"version": 2}', JSON)
    (second,) = watch.tick()

    assert (first.data["body"], second.data["body"]) == ({"version": 1}, {"version": 2})
    assert first.key != second.key


def test_etag_and_last_modified_are_sent_back(watch: Watch) -> None:
    stamp = "Sat, 01 Jun 2024 10:00:00 GMT"
    watch.site.serve("/news", b"text", {"ETag": '"a"', "Last-Modified": stamp})

    (event,) = watch.tick()
    again = watch.tick()

    assert again == []
    assert event.time == datetime(2024, 6, 1, 10, tzinfo=UTC)
    assert watch.site.asked[-1].headers["if-none-match"] == '"a"'
    assert watch.site.asked[-1].headers["if-modified-since"] == stamp


def test_items_are_named_by_their_key(watch: Watch) -> None:
    watch.site.serve("/news", b'[{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]', JSON)

    events = watch.tick(items="$[*]", key="id")

    assert [(event.key, event.subject) for event in events] == [("key:1", "1"), ("key:2", "2")]


def test_post_sends_its_body_and_headers(watch: Watch) -> None:
    watch.site.serve("/news", b"[]", JSON)

    watch.tick(method="POST", body={"since": 1}, headers={"X-Key": "geheim"}, items="$")

    asked = watch.site.asked[-1]
    assert (asked.method, asked.body, asked.headers["x-key"]) == ("POST", b'{"since": 1}', "geheim")
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, "answers 404; mend `url`"), (401, "check the credentials"), (500, "answers 500; it is tried")],
)
def test_refusal_is_told_with_a_remedy(watch: Watch, status: int, sentence: str) -> None:
    watch.site.serve("/news", b"no", status=status)

    with pytest.raises(SensorError, match=sentence):
        watch.tick(url=watch.site.url + "/news?token=geheim")


def test_secret_of_the_query_is_in_no_message(watch: Watch) -> None:
    with pytest.raises(SensorError) as caught:
        watch.tick(url=watch.site.url.replace("//", "//me:geheim@") + "/gone?token=geheim")

    assert "geheim" not in str(caught.value)


def test_secret_of_the_path_is_in_no_message(watch: Watch) -> None:
    with pytest.raises(SensorError) as error:
        watch.tick(url=f"{watch.site.url}/bot-geheim/updates")

    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("body", [b"{", b'{"a": NaN}', b"[" * 200 + b"]" * 200])
def test_what_is_no_json_is_an_error(watch: Watch, body: bytes) -> None:
    watch.site.serve("/news", body, JSON)

    with pytest.raises(SensorError, match="is no JSON"):
        watch.tick(items="$")


def test_path_that_does_not_fit_says_what_is_there(watch: Watch) -> None:
    watch.site.serve("/news", b'{"data": {"rows": []}}', JSON)

    with pytest.raises(SensorError, match="there is no 'items' in an object with 'rows'"):
        watch.tick(items="$.data.items")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:0001::",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "ff02::1",
        "192.0.0.8",
        "168.63.129.16",
    ],
)
def test_private_address_is_refused(address: str) -> None:
    with pytest.raises(SensorError, match="allow_private: true"):
        refuse_private(ipaddress.ip_address(address), "inside.example")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_address_is_not_refused(address: str) -> None:
    refuse_private(ipaddress.ip_address(address), "outside.example")


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "[::1]"])
def test_this_machine_is_refused_however_it_is_written(watch: Watch, host: str) -> None:
    port = watch.site.url.rpartition(":")[2]

    with pytest.raises(SensorError, match=r"allow_private: true|cannot be found"):
        watch.tick(url=f"http://{host}:{port}/news", allow_private=False)

    assert watch.site.asked == []


def test_host_is_resolved_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address at every look (DNS rebinding) gains nothing."""
    answers = iter(["93.184.215.14", "127.0.0.1", "127.0.0.1"])
    looked = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[Any]:
        looked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    connected: list[Any] = []

    def connect(address: Any, *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(SensorError, match="cannot be fetched: Connection refused"):
        watch.tick(url="http://rebind.example/latest", allow_private=False)

    assert (looked, connected) == (["rebind.example"], [("93.184.215.14", 80)])


def test_every_address_of_a_host_is_tried(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(watch.site.url.rpartition(":")[2])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    watch.site.serve("/news", b"here")

    (event,) = watch.tick(url=f"http://twice.example:{port}/news")

    assert event.data["body"] == "here"


@pytest.mark.parametrize(
    ("written", "asked"), [("/caf\u00e9?q=\u20ac", "/caf%C3%A9"), ("/a b%20c", "/a%20b%20c")]
)
def test_address_is_percent_encoded_where_it_is_not(watch: Watch, written: str, asked: str) -> None:
    watch.site.serve(asked, b"here")

    (event,) = watch.tick(url=watch.site.url + written)

    assert event.data["body"] == "here"


@pytest.mark.parametrize("location", ["/caf\u00c3\u00a9", "/caf%C3%A9"])
def test_location_may_hold_raw_utf8(watch: Watch, location: str) -> None:
    watch.site.answer_by("/news", redirect_to(location))
    watch.site.serve("/caf%C3%A9", b"here")

    (event,) = watch.tick()

    assert event.data["body"] == "here"


@pytest.mark.parametrize("target", ["http://[::1", "//[", "http://a:x/"])
def test_location_that_is_no_address_is_an_error(watch: Watch, target: str) -> None:
    watch.site.answer_by("/news", redirect_to(target))

    with pytest.raises(SensorError, match=r"cannot be read|no address|no valid port"):
        watch.tick()


@pytest.mark.parametrize("end", ["\u20ac", "\n"])
def test_header_that_http_cannot_carry_is_an_error_without_its_value(watch: Watch, end: str) -> None:
    with pytest.raises(SensorError, match="HTTP cannot carry") as error:
        watch.tick(headers={"Authorization": f"Bearer geheim{end}"})

    assert "geheim" not in str(error.value)


def redirect_to(url: str) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_redirect_is_followed_and_keeps_its_headers_from_others(watch: Watch) -> None:
    watch.site.answer_by("/news", redirect_to(watch.site.url.replace("127.0.0.1", "localhost") + "/moved"))
    watch.site.serve("/moved", b"there")

    (event,) = watch.tick(headers={"Authorization": "Bearer geheim"})

    assert event.data["body"] == "there"
    assert "authorization" not in watch.site.asked[-1].headers


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "file:///etc/passwd", "gopher://a/"])
def test_redirect_is_checked_as_an_address_of_its_own(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    watch.site.answer_by("/news", redirect_to(target))
    port = int(watch.site.url.rpartition(":")[2])
    real = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda address, **more: real(("127.0.0.1", port), **more)
    )

    with pytest.raises(SensorError, match=r"allow_private: true|no address of http"):
        watch.tick(url="http://8.8.8.8/news", allow_private=False)

    assert len(watch.site.asked) == 1


def test_redirects_without_end_are_an_error(watch: Watch) -> None:
    watch.site.answer_by("/news", redirect_to("/news"))

    with pytest.raises(SensorError, match="redirects more than 5 times"):
        watch.tick()


def test_answer_that_is_too_large_is_an_error(watch: Watch) -> None:
    watch.site.serve("/news", b"x" * 5000)

    with pytest.raises(SensorError, match="more than 1,000 bytes; raise `max_bytes`"):
        watch.tick(max_bytes=1000)


def test_answer_that_drips_is_given_up(watch: Watch) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b".")
            handler.wfile.flush()
            time.sleep(0.02)  # the pace of the drip

    watch.site.answer_by("/news", drip)

    with pytest.raises(SensorError, match=r"did not answer within 0\.3 s"):
        watch.tick(timeout=0.3)


def test_packed_answer_is_refused(watch: Watch) -> None:
    watch.site.serve("/news", b"\x1f\x8b", {"Content-Encoding": "gzip"})

    with pytest.raises(SensorError, match="in the encoding gzip, which was not asked for"):
        watch.tick()


def test_options_show_no_secret() -> None:
    options = {"url": "https://a.example/?k=geheim", "headers": {"A": "geheim"}, "body": "geheim"}

    assert "geheim" not in repr(HttpSensor.configure(options).options)
    assert "geheim" not in repr(Request("https://a.example/?k=geheim", headers={"A": "geheim"}))


@pytest.mark.parametrize("url", ["ftp://a/b", "http:///x", "file:///etc/passwd"])
def test_only_http_is_fetched(url: str) -> None:
    with pytest.raises(OptionsError):
        HttpSensor.configure({"url": url})
    with pytest.raises(SensorError, match="no address of http"):
        fetch(Request(url))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [{"a": [{"b": 1}, {"b": 2}], "odd name": 3}]),
        ("a[*].b", [1, 2]),
        ("$.a[1].b", [2]),
        ("$['odd name']", [3]),
        ('$["a"][0]["b"]', [1]),
    ],
)
def test_path(path: str, found: list[Any]) -> None:
    assert list(values_at({"a": [{"b": 1}, {"b": 2}], "odd name": 3}, parse_path(path))) == found


@pytest.mark.parametrize("path", ["a..b", "a[", "$.a[?(@.b)]", "a[-1]"])
def test_path_that_is_none(path: str) -> None:
    with pytest.raises(PathError):
        parse_path(path)


def test_private_address_is_named_once() -> None:
    with pytest.raises(SensorError, match=r"^127\.0\.0\.1 is an address"):
        refuse_private(ipaddress.ip_address("127.0.0.1"), "127.0.0.1")
