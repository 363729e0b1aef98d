"""Three objects land in a bucket and become one run, whose block gets them as a table of three rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.conftest import StartService
from tests.parts.gcs import GcsEmulator
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

TAKE = """
from pipelines import data_loader, test

@data_loader
def take(*, events, **kwargs):
    assert len(kwargs["event"]["data"]["events"]) == len(events)
    assert kwargs["prefix"] == "day"
    return events[["subject", "data.name", "data.size", "time"]].sort_values("data.name")

@test
def has_each(table):
    assert list(table["data.name"]) == ["day/a.csv", "day/b.csv", "day/c.csv"]
    assert str(table["time"].dtype).startswith("datetime64")
"""


def test_objects_that_settle_become_one_run(
    gcs: GcsEmulator, start_service: StartService, tmp_path: Path
) -> None:
    bucket = gcs.make_bucket()
    root = write_project(tmp_path / "lake")
    trigger = {
        "name": "landed",
        "type": "sensor",
        "sensor": "gcs_object",
        "options": {"bucket": bucket, "prefix": "day/"},
        "every": "1s",
        "existing": "trigger",
        "settle": {"quiet": "2s", "max_wait": "20s", "group": "{{ event.data.name.split('/')[0] }}"},
        "variables": {"prefix": "{{ event.data.group }}"},
    }
    write_pipeline(root, "day", [BlockFile("take", TAKE, "data_loader")], triggers=[trigger])
    gcs.put_many(bucket, [f"day/{name}.csv" for name in "abc"])
    service = start_service(root, environ=gcs.environ)

    def all_of(what: str) -> list[dict[str, Any]]:
        return list(requests.get(f"{service.url}/api/v1/{what}", timeout=10).json()["items"])

    wait_until(
        lambda: [run["state"] for run in all_of("runs")] in (["succeeded"], ["failed"]), what="the run"
    )
    (run,) = all_of("runs")
    assert run["state"] == "succeeded", run["blocks"]
    assert run["blocks"][0]["rows"] == 3
    found = all_of("events")
    assert sorted(event["type"] for event in found) == ["batch.settled"] + ["object.finalized"] * 3
    members = [event for event in found if event["type"] == "object.finalized"]
    assert {event["outcome"] for event in members} == {"batched"}
    assert {match["run_id"] for event in members for match in event["matches"]} == {run["id"]}
