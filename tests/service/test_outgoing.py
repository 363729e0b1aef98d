"""Events on their way to addresses outside: signed, and sent until they are taken."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from service.intake.verify.base import Signed, Unverified
from service.intake.verify.registry import build_scheme
from service.outgoing.announcer import Announcer
from service.outgoing.schedule import DELAYS, delay_after, retry_after
from service.outgoing.sender import AT_ONCE_TO_ONE, Sender
from service.outgoing.signing import SigningError, signed_headers
from service.store import outgoing, prune
from service.store.outgoing import NewOutgoing, Outgoing, SendState
from service.store.session import Commit
from tests.architecture.floors import ROOT
from tests.parts.hooks import START, Hooks, running_hooks
from tests.parts.http_site import HttpSite, running_site
from tests.parts.waiting import wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
HOOK = {"name": "hook", "type": "webhook", "verify": "none"}


@pytest.fixture(scope="module")
def site() -> Iterator[HttpSite]:
    with running_site() as made:
        yield made


@contextmanager
def sending(root: Path, url: str, **others: Any) -> Iterator[Hooks]:
    address = {"name": "ops", "url": url, "secrets": [SECRET, PRIVATE], "allow_private": True, **others}
    with running_hooks(root, [HOOK], settings_of_project={"cloudevents": {"send": [address]}}) as hooks:
        yield hooks


def end_a_run(hooks: Hooks) -> None:
    hooks.accept()
    hooks.finish_one()
    Announcer(hooks.runtime, hooks.dispatcher).announce()


def rows(hooks: Hooks) -> list[Outgoing]:
    with hooks.runtime.database.read() as connection:
        return outgoing.listing(connection)


def send(hooks: Hooks) -> Outgoing:
    """Try the one event that is due, and return what became of it."""
    sender = Sender(hooks.runtime, stop_seconds=20)
    assert sender.send_due() == 1
    sender.stop()  # waits for the try
    (row,) = rows(hooks)
    return row


def due_now(hooks: Hooks) -> None:
    """Let time pass until the next try."""
    hooks.runtime.database.write(
        Commit.SEND, lambda tx: tx.connection.exec_driver_sql("UPDATE outgoing SET next_at = 0")
    )


def path_of(tmp_path: Path) -> str:
    return f"/{tmp_path.name}"


def posted(site: HttpSite, path: str) -> list[Any]:
    return [asked for asked in site.asked if asked.path == path]


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime = START) -> None:
    scheme = build_scheme({"scheme": "standard_webhooks", "secret": secret})
    scheme.verify(Signed(body, headers), now)


def test_the_end_of_a_run_is_posted_as_a_signed_cloudevent(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"")
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)
        sent = send(hooks)

        assert (sent.state, sent.attempts, sent.next_at) == (SendState.SENT, 1, None)
        (asked,) = posted(site, path)
        assert asked.headers["content-type"].startswith("application/cloudevents+json")
        assert asked.headers["webhook-id"] == sent.event_id
        for secret in (SECRET, PUBLIC):
            verify(secret, asked.headers, asked.body)
        with pytest.raises(Unverified):
            verify(SECRET, asked.headers, asked.body + b" ")
        event = json.loads(asked.body)
        (run,) = hooks.all_runs()
        assert (event["specversion"], event["id"], event["type"]) == ("1.0", sent.event_id, "run.succeeded")
        assert (event["source"], event["subject"]) == ("/projects/demo/pipelines/etl", run.id)
        assert event["millracehops"] == 1
        assert event["data"]["state"] == "succeeded"
        assert hooks.event(sent.event_id).outcome == "unmatched"
        assert Sender(hooks.runtime).send_due() == 0


def test_an_address_gets_what_it_wants_and_nothing_else(site: HttpSite, tmp_path: Path) -> None:
    with sending(tmp_path / "demo", site.url, events=["run.failed"]) as hooks:
        end_a_run(hooks)
        assert rows(hooks) == []
    with sending(tmp_path / "other", site.url, pipelines=["else"]) as hooks:
        end_a_run(hooks)
        assert rows(hooks) == []


def test_what_is_not_taken_is_sent_again_and_a_wish_is_obeyed(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"", {"Retry-After": "7200"}, status=503)
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)
        row = send(hooks)

        assert (row.state, row.error) == (SendState.WAITING, "the receiver answers 503")
        assert row.next_at is not None
        assert row.next_at - datetime.now(UTC) > timedelta(seconds=7100)
        assert Sender(hooks.runtime).send_due() == 0
        site.serve(path, b"")
        due_now(hooks)
        again = send(hooks)

        assert (again.state, again.attempts) == (SendState.SENT, 2)
        first, second = posted(site, path)
        assert first.body == second.body
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_a_receiver_that_is_gone_is_not_asked_again(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"", status=410)
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)

        assert send(hooks).state is SendState.FAILED


def test_redirects_are_failures(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"", {"Location": f"{site.url}/elsewhere"}, status=307)
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)

        assert send(hooks).error == "the receiver answers 307"
        assert posted(site, "/elsewhere") == []


def test_private_addresses_are_refused_unless_allowed(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    with sending(tmp_path / "demo", site.url + path, allow_private=False) as hooks:
        end_a_run(hooks)
        row = send(hooks)

        assert row.state is SendState.WAITING
        assert "private" in str(row.error)
        assert posted(site, path) == []


def test_tries_come_to_an_end(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"", status=500)
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)
        states = []
        for _ in DELAYS:
            due_now(hooks)
            states.append(send(hooks).state)

        assert states == [SendState.WAITING] * (len(DELAYS) - 1) + [SendState.FAILED]
        assert "given up after 10 tries: the receiver answers 500" in str(rows(hooks)[0].error)


def test_an_address_that_the_project_names_no_more(site: HttpSite, tmp_path: Path) -> None:
    with sending(tmp_path / "demo", site.url) as hooks:
        end_a_run(hooks)
        (hooks.root / "metadata.yaml").write_text("name: demo\n")
        hooks.runtime.projects.refresh()

        assert "names no address 'ops'" in str(send(hooks).error)


def test_a_try_that_died_is_repeated_after_its_lease(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"")
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)
        claim = partial(outgoing.claim, projects=["demo"], lease=timedelta(0), limit=9)
        (dead,) = hooks.runtime.database.write(Commit.SEND, claim)
        row = send(hooks)
        late = outgoing.Tried(SendState.FAILED, "too late")
        hooks.runtime.database.write(Commit.SEND, lambda tx: outgoing.settle(tx, dead, late))

        assert (row.state, row.attempts) == (SendState.SENT, 2)
        assert rows(hooks)[0].state is SendState.SENT, "the dead try decides nothing any more"


def test_several_engines_send_each_event_once(postgres_url: str, site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)
    site.serve(path, b"")
    address = {"name": "ops", "url": site.url + path, "secret": SECRET, "allow_private": True}
    chosen = {"cloudevents": {"send": [address]}}
    with running_hooks(tmp_path, [HOOK], database_url=postgres_url, settings_of_project=chosen) as hooks:
        for number in range(30):
            hooks.accept({"number": number})
            hooks.finish_one()
        senders = [Sender(hooks.runtime) for _ in range(3)]
        for sender in senders:
            sender.start()
        Announcer(hooks.runtime, hooks.dispatcher).announce()
        wait_until(
            lambda: len(rows(hooks)) == 30 and all(row.state is SendState.SENT for row in rows(hooks)),
            what="all are sent",
        )
        for sender in senders:
            sender.stop()

    ids = [asked.headers["webhook-id"] for asked in posted(site, path)]
    assert len(ids) == len(set(ids)) == 30


def test_a_slow_receiver_does_not_keep_the_engine_from_ending(site: HttpSite, tmp_path: Path) -> None:
    path = path_of(tmp_path)

    def never(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(1)  # until the other side goes

    site.answer_by(path, never)
    with sending(tmp_path / "demo", site.url + path) as hooks:
        end_a_run(hooks)
        sender = Sender(hooks.runtime, stop_seconds=0.1)
        sender.start()
        wait_until(lambda: rows(hooks)[0].attempts == 1, what="the try has begun")
        sender.stop()

        assert rows(hooks)[0].state is SendState.WAITING


def test_an_address_that_hangs_leaves_room_for_others(
    site: HttpSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, go_on = path_of(tmp_path), threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(30)

    site.answer_by(path + "-dead", hang)
    site.serve(path, b"")
    addresses = [
        {"name": name, "url": site.url + path + end, "secret": SECRET, "allow_private": True}
        for name, end in (("dead", "-dead"), ("good", ""))
    ]
    chosen = {"cloudevents": {"send": addresses}}
    with running_hooks(tmp_path / "demo", [HOOK], settings_of_project=chosen) as hooks:
        look = Mock(wraps=outgoing.seconds_to_next)
        monkeypatch.setattr(outgoing, "seconds_to_next", look)
        for _ in range(6):
            end_a_run(hooks)
        sender = Sender(hooks.runtime, stop_seconds=20)
        sender.start()
        try:
            wait_until(lambda: len(posted(site, path)) == 6, what="the good address has all")
            assert len(posted(site, path + "-dead")) == AT_ONCE_TO_ONE
            assert look.call_count < 60, "it sleeps while nothing can be begun"
        finally:
            go_on.set()
            sender.stop()


def test_what_is_sent_or_given_up_is_pruned_with_deliveries(site: HttpSite, tmp_path: Path) -> None:
    with sending(tmp_path / "demo", site.url) as hooks:
        database = hooks.runtime.database
        new = [NewOutgoing("demo", "ops", f"event-{number}", "run.failed", "{}") for number in range(2)]
        database.write(Commit.ANNOUNCE, lambda tx: outgoing.add(tx, new))
        claim = partial(outgoing.claim, projects=["demo"], lease=timedelta(0), limit=1)
        (first,) = database.write(Commit.SEND, claim)
        given_up = outgoing.Tried(SendState.FAILED, "no")
        database.write(Commit.SEND, lambda tx: outgoing.settle(tx, first, given_up))
        retention = prune.Retention(deliveries=timedelta(0))
        database.write(Commit.PRUNE, lambda tx: prune.prune(tx, retention, set_aside=lambda _: None))

        assert [row.state for row in rows(hooks)] == [SendState.WAITING]


# Signatures and times, by themselves

BODY = b'{"test": 2432232314}'


@pytest.mark.parametrize(
    ("secret", "signature"),
    [
        (SECRET, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (
            PRIVATE,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
    ],
)
def test_signatures_are_those_of_the_published_vectors(secret: str, signature: str) -> None:
    headers = signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY)

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": signature,
    }


def test_a_private_key_may_be_its_seed_alone() -> None:
    seed = base64.b64encode(base64.b64decode(PRIVATE.removeprefix("whsk_"))[:32]).decode()

    headers = signed_headers([f"whsk_{seed}"], "msg_1", int(START.timestamp()), BODY)

    verify(PUBLIC, headers, BODY)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_%%", "whsk_AAAA", "plain", ""])
def test_secrets_that_cannot_sign_are_told_without_themselves(secret: str) -> None:
    with pytest.raises(SigningError) as told:
        signed_headers([secret], "msg_1", 0, BODY)
    assert "%%" not in str(told.value)


def test_delays_follow_the_schedule_of_standard_webhooks() -> None:
    hours = [0, 5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24]
    assert [delay / 3600 for delay in DELAYS] == pytest.approx(hours)
    for attempt in range(1, 10):
        delay = delay_after(attempt)
        assert delay is not None
        assert DELAYS[attempt] <= delay.total_seconds() <= DELAYS[attempt] * 1.1
    assert delay_after(10) is None
    assert delay_after(1, timedelta(minutes=3)) == timedelta(minutes=3)
    assert delay_after(1, timedelta(days=300)) == timedelta(hours=24)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 01 Mar 2024 12:01:00 GMT", 60),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    found = retry_after(header, START)

    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_the_example_for_receivers_takes_what_we_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "events" / "cloudevents.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setattr("time.time", START.timestamp)
    headers = signed_headers([PRIVATE, SECRET], "msg_1", int(START.timestamp()), BODY)

    names["verify"](SECRET, headers, BODY)
    with pytest.raises(ValueError, match="not authentic"):
        names["verify"](SECRET, headers, BODY + b" ")
    with pytest.raises(ValueError, match="too old"):
        names["verify"](SECRET, {**headers, "webhook-timestamp": "1"}, BODY)
