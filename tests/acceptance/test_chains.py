"""Pipelines that start one another by the ends of their runs, and a receiver outside, for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from service.clock import utc_now
from service.intake.verify.base import Signed
from service.intake.verify.registry import build_scheme
from tests.acceptance.conftest import StartService
from tests.parts.http_site import running_site
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.service import run_millrace
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WORK = BlockFile("work", "@custom\ndef work(*args, **kwargs):\n    return 1\n")
AGAIN = {"name": "again", "type": "event", "event": "run.succeeded", "source": "run:round"}
AFTER = {
    "name": "after",
    "type": "event",
    "event": "run.succeeded",
    "source": "run:first",
    "variables": {"of": "{{ event.data.run_id }}", "month": "{{ event.data.variables.month }}"},
}


def test_chains_go_on_by_themselves_and_circles_end(tmp_path: Path, start_service: StartService) -> None:
    with running_site() as site:
        site.serve("/hook", b"")
        address = {"name": "ops", "url": f"{site.url}/hook", "secret": SECRET, "allow_private": True}
        send = [{**address, "pipelines": ["second"]}]
        root = write_project(tmp_path / "demo", cloudevents={"send": send})
        write_pipeline(root, "round", [WORK], triggers=[open_webhook(), AGAIN])
        write_pipeline(root, "first", [WORK], triggers=[open_webhook()])
        write_pipeline(root, "second", [WORK], triggers=[AFTER])
        service = start_service(root, environ={"MILLRACE_MAX_HOPS": "3"})

        requests.post(f"{service.url}/webhooks/round/hook", json={}, timeout=10)
        first = requests.post(
            f"{service.url}/webhooks/first/hook", json={"variables": {"month": "2024-01"}}, timeout=10
        ).json()

        skipped = wait_until(
            lambda: _events(service, pipeline="round", outcome="skipped"), seconds=30, what="the end of it"
        )
        second = wait_until(
            lambda: [run for run in _runs(service, "second") if run["state"] == "succeeded"],
            what="the pipeline behind the first one",
        )
        assert "over the limit of 3" in skipped[0]["reason"]
        assert len(_runs(service, "round")) == 4
        assert [run["variables"] for run in second] == [{"of": first["run_ids"][0], "month": "2024-01"}]
        asked = wait_until(lambda: list(site.asked), what="the receiver is told")

        told = [json.loads(one.body) for one in asked]
        assert [(one["type"], one["data"]["run_id"]) for one in told] == [("run.succeeded", second[0]["id"])]
        scheme = build_scheme({"scheme": "standard_webhooks", "secret": SECRET})
        scheme.verify(Signed(asked[0].body, asked[0].headers), utc_now())
        wait_until(lambda: _outgoing(root, "sent"), what="the command shows it as sent")


def _events(service: Any, **query: str) -> list[dict[str, Any]]:
    return requests.get(f"{service.url}/api/v1/events", params=query, timeout=10).json()["items"]


def _runs(service: Any, pipeline: str) -> list[dict[str, Any]]:
    query = {"pipeline": pipeline}
    return requests.get(f"{service.url}/api/v1/runs", params=query, timeout=10).json()["items"]


def _outgoing(root: Path, state: str) -> list[dict[str, Any]]:
    command = ("events", "outgoing", "--state", state, "--json")
    printed = run_millrace(*command, "--project", str(root), cwd=root)
    return json.loads(printed.stdout)["items"]
