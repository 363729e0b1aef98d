"""Backfills, replays and the live list of events on the command line, as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.service import MILLRACE, Service, clean_environment, run_millrace
from tests.parts.waiting import wait_until

BLOCK = BlockFile(
    "one",
    """
    from pipelines import custom

    @custom
    def one(*, execution_date, **kwargs):
        if execution_date.day == kwargs.get("bad"):
            raise ValueError("a bad day")
        return {"slots": len(kwargs.get("slots", []))}
    """,
    keys={"retry_config": {"retries": 0}},
)
RANGE = ("--start", "2024-01-31", "--end", "2024-03-31", "--every", "1mo")

Millrace = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    project = write_project(tmp_path_factory.mktemp("backfills") / "demo")
    write_pipeline(project, "etl", [BLOCK], triggers=[open_webhook(variables={"n": "{{ event.data.n }}"})])
    write_pipeline(project, "other", [BLOCK])
    with Service([project]) as started:
        started.wait_ready()
        yield started


@pytest.fixture
def millrace(service: Service) -> Millrace:
    return lambda *arguments: run_millrace(*arguments, cwd=service.projects[0])


def json_of(completed: subprocess.CompletedProcess[str]) -> Any:
    assert completed.stdout, completed.stderr
    return json.loads(completed.stdout)


def all_done(service: Service) -> bool:
    listed = requests.get(f"{service.url}/api/v1/runs?trigger=hook", timeout=10).json()
    return all(run["state"] == "succeeded" for run in listed["items"])


def test_range_is_shown_run_waited_for_and_found_done(millrace: Millrace) -> None:
    shown = millrace("backfill", "etl", *RANGE, "--dry-run")
    ran = millrace("backfill", "etl", *RANGE, "--wait")
    again = millrace("backfill", "etl", *RANGE, "--wait")

    lines = shown.stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["2024-01-31T00:00:00Z", "2024-02-29T00:00:00Z", "missing", "run"],
        ["2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z", "missing", "run"],
        ["2024-03-31T00:00:00Z", "2024-04-30T00:00:00Z", "missing", "run"],
    ]
    assert "the end included: the last slot is that of 2024-03-31T00:00:00Z" in shown.stderr
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "backfill finished: 3 succeeded"
    assert (again.returncode, again.stdout) == (0, "nothing to run: 3 done\n")


def test_failed_run_is_told_and_failed_slots_are_run_again(millrace: Millrace) -> None:
    days = ("--start", "2024-01-01", "--end", "2024-01-04", "--every", "1d")

    failed = millrace("backfill", "other", *days, "--var", "bad=2", "--wait", "--json")
    mended = millrace("backfill", "other", *days, "--reprocess", "failed", "--chunk", "2", "--wait")

    assert failed.returncode == 1
    backfill = json_of(failed)
    assert (backfill["state"], backfill["counts"]) == ("finished", {"failed": 1, "succeeded": 3})
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.splitlines()[-1] == "backfill finished: 3 skipped, 1 succeeded"
    assert len(json_of(millrace("backfills", "list", "--pipeline", "other", "--json"))["items"]) >= 2
    table = millrace("backfills", "show", backfill["id"], "--limit", "2")
    assert "a bad day" in table.stdout
    assert "2024-01-02T00:00:00Z  2024-01-03T00:00:00Z  failed" in table.stdout
    assert table.stderr == "more: --cursor 1\n"


def test_backfill_is_held_and_ended(millrace: Millrace) -> None:
    weeks = ("--start", "1990-01-01", "--end", "2020-12-31", "--every", "1w", "--concurrency", "1")
    ident = json_of(millrace("backfill", "other", *weeks, "--json"))["id"]

    said = [millrace("backfills", verb, ident) for verb in ("pause", "cancel", "resume")]

    assert said[0].stdout.startswith(f"backfill {ident} is paused: ")
    assert said[1].stdout.startswith(f"backfill {ident} is cancelled: ")
    assert (said[2].returncode, "it is cancelled" in said[2].stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("etl", "--start", "2024-01-01", "--end", "2024-01-02"), "say how long a slot is"),
        (("etl", *RANGE, "--events"), "are for dates"),
        (("etl", "--start", "soon", "--end", "2024-01-02"), "'soon' is not a date"),
    ],
)
def test_wrong_use_is_said(millrace: Millrace, arguments: tuple[str, ...], problem: str) -> None:
    refused = millrace("backfill", *arguments)

    assert (refused.returncode, problem in refused.stderr) == (2, True), refused.stderr


def test_events_are_followed_replayed_and_forgotten(service: Service, millrace: Millrace) -> None:
    hook = f"{service.url}/webhooks/etl/hook"
    first = requests.post(hook, json={"n": 1}, timeout=10).json()["event_id"]
    output = service.projects[0] / "tail.txt"
    with output.open("wb") as stream:
        tail = subprocess.Popen(
            [*MILLRACE, "events", "tail", "--json", "-n", "1"],
            cwd=service.projects[0],
            env=clean_environment(),
            stdout=stream,
            stderr=subprocess.PIPE,
        )
    wait_until(lambda: first in output.read_text(), seconds=30, what="the last event")
    second = requests.post(hook, json={"n": 2}, timeout=10).json()["event_id"]

    dry = millrace("events", "replay", first, "--dry-run")
    done = json_of(millrace("events", "replay", "--trigger", "hook", "--since", "2024-01-01", "--json"))

    assert "the same variables as last time" in dry.stdout
    assert [one["event_id"] for one in done["items"]] == [first, second]
    replays = [one["replay_id"] for one in done["items"]]
    wait_until(lambda: replays[-1] in output.read_text(), seconds=10, what="the replays")
    tail.send_signal(signal.SIGINT)
    _, trouble = tail.communicate(timeout=20)
    followed = [json.loads(line) for line in output.read_text().splitlines()]
    assert [event["id"] for event in followed] == [first, second, *replays]
    assert (tail.returncode, trouble) == (0, b"")
    assert followed[-1]["replay_of"] == second

    wait_until(lambda: all_done(service), seconds=30, what="the runs")
    again = millrace("backfill", "etl", "--trigger", "hook", "--events", "--wait")
    assert again.stdout.splitlines()[-1] == "backfill finished: 2 succeeded", again.stderr
    forgotten = millrace("events", "forget", first, "--yes")
    assert forgotten.stdout == f"event {first} is forgotten; 3 runs were emptied\n", forgotten.stderr
    assert millrace("events", "show", replays[0]).returncode == 2
