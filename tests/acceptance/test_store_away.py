"""The store goes away for ten seconds under load, and comes back."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import pytest
import requests

from tests.parts.postgres import postgres_that_stops
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

AWAY_SECONDS = 10.0

NOTE = """
import time
from pathlib import Path

def note(kwargs):
    with open(kwargs["folder"] + "/journal", "a") as journal:
        journal.write(kwargs["block_uuid"] + "\\n")
"""
FIRST = NOTE + "\n@custom\ndef first(*args, **kwargs):\n    note(kwargs)\n    return 1\n"
SECOND = (
    NOTE
    + """
@custom
def second(one, **kwargs):
    note(kwargs)
    while not Path(kwargs["folder"], "go").exists():
        time.sleep(0.02)
    return 2
"""
)
LAST = NOTE + "\n@data_exporter\ndef last(two, **kwargs):\n    note(kwargs)\n"


@dataclass
class Sender:
    """Posts events one after the other until it is stopped, as a sender does who knows of nothing."""

    url: str
    accepted: list[dict] = field(default_factory=list)
    refused: list[requests.Response] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def post_on(self) -> None:
        with requests.Session() as session:
            for number in itertools.count():
                answer = session.post(f"{self.url}/webhooks/quick/hook", json={"number": number}, timeout=60)
                if answer.status_code == 202:
                    self.accepted.append(answer.json())
                else:
                    self.refused.append(answer)
                if self.stopping.wait(0.02):
                    return


def test_a_store_that_is_away_for_ten_seconds_loses_nothing(tmp_path, start_service):
    project = write_project(tmp_path / "away")
    steps = [
        BlockFile("first", FIRST),
        BlockFile("second", SECOND, upstream=["first"]),
        BlockFile("last", LAST, "data_exporter", ["second"]),
    ]
    write_pipeline(project, "steps", steps, triggers=[open_webhook()], variables={"folder": str(tmp_path)})
    quick = BlockFile("quick", "@custom\ndef quick(*args, **kwargs):\n    return 1\n")
    write_pipeline(project, "quick", [quick], triggers=[open_webhook()])

    with postgres_that_stops() as postgres:
        lease = {"MILLRACE_LEASE_SECONDS": "60", "MILLRACE_RENEW_SECONDS": "5", "MILLRACE_SLOTS": "2"}
        service = start_service(project, environ={"MILLRACE_DATABASE_URL": postgres.url, **lease})
        sender = Sender(service.url)
        threading.Thread(target=sender.post_on, daemon=True).start()
        slow = requests.post(f"{service.url}/webhooks/steps/hook", json={}, timeout=10).json()["run_ids"][0]
        wait_until(lambda: _journal(tmp_path) == ["first", "second"], what="the slow block", seconds=20)
        wait_until(lambda: len(sender.accepted) > 30, what="some events", seconds=20)

        postgres.stop()
        stopped_at = time.monotonic()
        (tmp_path / "go").touch()  # so that a block ends while nobody can write it down
        wait_until(lambda: sender.refused, what="a refusal", seconds=20)
        wait_until(lambda: time.monotonic() - stopped_at > AWAY_SECONDS, what="ten seconds", seconds=30)
        assert _journal(tmp_path) == ["first", "second"]  # an exporter waits until its input is recorded
        postgres.start()

        before = len(sender.accepted)
        wait_until(lambda: len(sender.accepted) > before + 30, what="events after it is back", seconds=30)
        sender.stopping.set()
        run_ids = [run_id for answer in sender.accepted for run_id in answer["run_ids"]]
        assert len(run_ids) == len(set(run_ids)) == len(sender.accepted)
        for run_id in [slow, *run_ids]:
            wait_until(lambda: _state(service, run_id) == "succeeded", what=f"run {run_id}", seconds=90)  # noqa: B023

    assert {answer.status_code for answer in sender.refused} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in sender.refused)
    assert _journal(tmp_path) == ["first", "second", "last"]


def _state(service, run_id: str) -> str:
    return requests.get(f"{service.url}/api/v1/runs/{run_id}", timeout=10).json()["state"]


def _journal(folder) -> list[str]:
    journal = folder / "journal"
    return journal.read_text().splitlines() if journal.exists() else []
