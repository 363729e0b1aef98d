"""Every answer that a sender of webhooks can get, from a real service over real HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import Service
from tests.parts.verification import github_headers, sign_base64, slack_headers, stripe_headers

pytestmark = pytest.mark.acceptance

KEY = "a secret of 24 characters"
PAYLOADS = Path(__file__).parents[3] / "shared" / "data" / "webhooks"


def hook(name: str, verify: Any = "none", **keys: Any) -> dict[str, Any]:
    if verify != "none":
        verify = {"scheme": verify, "secret": "{{ env_var('KEY') }}"}
    return {"name": name, "type": "webhook", "verify": verify, **keys}


HOOKS = [
    hook("github", "github"),
    hook("stripe", "stripe"),
    hook("slack", "slack"),
    hook("twilio", "twilio"),
    hook("open"),
    hook("filtered", filter="{{ event.data.size > 0 }}"),
    hook("mapped", variables={"a": "{{ event.data.a.b }}"}),
    hook("shaped", schema={"type": "object", "required": ["id"]}),
    hook("paused", paused=True),
    hook("settling", settle={"quiet": "1h", "max_wait": "2h"}),
    hook("small", max_body=100),
    hook("slow", rate="1/hour"),
    hook("far", allow=["192.0.2.0/24"]),
    hook("headed", required_headers=["X-Topic"]),
    hook("off", enabled=False),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = write_project(tmp_path_factory.mktemp("answers") / "demo")
    only = BlockFile("only", "@custom\ndef only(**kwargs):\n    return 1\n")
    write_pipeline(root, "etl", [only], triggers=HOOKS)
    with Service([root], environ={"KEY": KEY}) as running:
        running.wait_ready()
        yield running


def post(
    service: Service, name: str, body: bytes | dict[str, Any] = b"", headers: dict[str, str] | None = None
) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    shown = {"Content-Type": "application/json", **(headers or {})}
    return requests.post(f"{service.url}/webhooks/etl/{name}", data=data, headers=shown, timeout=30)


def outcome(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["outcome"]


def now() -> datetime:
    return datetime.now(UTC)


def test_accepted_and_repeated(service: Service) -> None:
    body = b'{"zen": "Keep it logically awesome."}'
    headers = github_headers(KEY, body, "guid-1")

    first, again = post(service, "github", body, headers), post(service, "github", body, headers)

    assert outcome(first) == (202, "ran")
    assert len(first.json()["run_ids"]) == 1
    assert first.json()["duplicate"] is False
    assert again.status_code == 200
    assert again.json() == {**first.json(), "duplicate": True}


@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        ("filtered", {"size": 0}, "filtered"),
        ("mapped", {"a": 1}, "mapping_failed"),
        ("shaped", {}, "mapping_failed"),
        ("paused", {}, "held"),
        ("open", b'{"a": NaN}', "quarantined"),
        ("open", b"[" * 100_000, "quarantined"),
    ],
)
def test_accepted_though_no_run_is_started(service: Service, name: str, body: Any, found: str) -> None:
    answer = post(service, name, body)

    assert outcome(answer) == (202, found)
    assert answer.json()["run_ids"] == []
    assert answer.json()["reason"]
    kept = requests.get(f"{service.url}/api/v1/events/{answer.json()['event_id']}", timeout=10).json()
    assert kept["outcome"] == found
    assert [delivery["verdict"] for delivery in kept["deliveries"]] == ["accepted"]


def test_settling_trigger_accepts_and_keeps(service: Service) -> None:
    answer = post(service, "settling", {"n": 1})

    assert answer.status_code == 202
    kept = requests.get(f"{service.url}/api/v1/events/{answer.json()['event_id']}", timeout=10).json()
    assert kept["data"] == {"n": 1}


def test_not_authentic(service: Service) -> None:
    stale = now() - timedelta(minutes=6)
    ahead = now() + timedelta(minutes=6)
    answers = [
        post(service, "github", b"{}"),
        post(service, "github", b"{}", github_headers("another secret", b"{}", "guid")),
        post(service, "stripe", b"{}", stripe_headers(KEY, b"{}", stale)),
        post(service, "stripe", b"{}", stripe_headers(KEY, b"{}", ahead)),
        post(service, "slack", b"{}", slack_headers(KEY, b"{}", stale)),
        post(service, "twilio", b"{}"),
        post(service, "far", b"{}"),
        post(service, "headed", b"{}"),
    ]

    assert [answer.status_code for answer in answers] == [401] * len(answers)
    assert len({answer.content for answer in answers}) == 1


def test_unknown_and_disabled_are_alike(service: Service) -> None:
    unknown, disabled = post(service, "nowhere"), post(service, "off")

    assert (unknown.status_code, disabled.status_code) == (404, 404)
    assert unknown.content == disabled.content


def test_too_large_by_its_length_and_while_it_is_read(service: Service) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 10

    chunked = requests.post(f"{service.url}/webhooks/etl/small", data=pieces(), timeout=30)

    assert post(service, "small", b"x" * 101).status_code == 413
    assert chunked.status_code == 413
    assert post(service, "small", b"1" * 100).status_code == 202


def test_over_the_rate(service: Service) -> None:
    answers = [post(service, "slow") for _ in range(8)]  # counted in each web process

    assert answers[0].status_code == 202
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(service: Service, method: str) -> None:
    answer = requests.request(method, f"{service.url}/webhooks/etl/open", timeout=10)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


def test_challenge_of_slack(service: Service) -> None:
    body = b'{"type": "url_verification", "token": "t", "challenge": "3eZbrw1aBm2r"}'

    answer = post(service, "slack", body, slack_headers(KEY, body, now()))

    assert (answer.status_code, answer.text) == (200, "3eZbrw1aBm2r")
    assert post(service, "slack", body).status_code == 401


def test_address_is_signed_as_it_was_sent(service: Service) -> None:
    url = f"{service.url}/webhooks/etl/twilio?from=%2B1&to=a%20b"
    signature = sign_base64(KEY, f"{url}MessageSidSM1MessageStatussent".encode(), "sha1")

    answer = requests.post(
        url,
        data="MessageStatus=sent&MessageSid=SM1",
        headers={"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"},
        timeout=10,
    )

    assert outcome(answer) == (202, "ran")
    event = requests.get(f"{service.url}/api/v1/events/{answer.json()['event_id']}", timeout=10).json()
    assert event["key"] == "SM1:sent"
    assert event["headers"]["x-twilio-signature"] == "[redacted]"


def test_real_payloads_of_github(service: Service) -> None:
    paths = sorted((PAYLOADS / "github").rglob("*.json"))[::8]
    if not paths:
        pytest.skip("the payloads of shared/data are not on this machine")
    with requests.Session() as session:
        for number, path in enumerate(paths):
            body = path.read_bytes()
            headers = github_headers(KEY, body, f"real-{number}", path.parent.name)
            answer = session.post(
                f"{service.url}/webhooks/etl/github",
                data=body,
                headers={"Content-Type": "application/json", **headers},
                timeout=30,
            )
            assert outcome(answer) == (202, "ran"), path


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 50\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_body_that_does_not_come_whole_is_no_event(service: Service, sent: bytes) -> None:
    head = b"POST /webhooks/etl/open HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as line:
        line.sendall(head + sent)
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400 ")
