"""Sensors by the API and by the command line, on real stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import run_millrace
from tests.parts.site import Site, site

TRIGGERS = """
triggers:
- name: landed
  type: sensor
  sensor: files
  options: {path: inbox, pattern: "*.csv"}
  every: 10s
  existing: trigger
  variables: {path: "{{ event.data.name }}"}
- {name: nightly, type: schedule, cron: "0 5 * * *"}
"""
LOAD = "from pipelines import custom\n@custom\ndef load(**kwargs):\n    return 1\n"
ONE = "/api/v1/sensors/etl/landed"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_project(tmp_path)
    write_pipeline(root, "etl", [BlockFile("load", LOAD)])
    (root / "pipelines" / "etl" / "triggers.yaml").write_text(TRIGGERS)
    (root / "inbox").mkdir()
    (root / "inbox" / "a.csv").write_text("1")
    return root


@pytest.fixture
def demo(root: Path) -> Iterator[Site]:
    with site(root) as made:
        yield made


def test_list_shows_sensors_only(demo: Site) -> None:
    (item,) = demo.client.get("/api/v1/sensors").get_json()["items"]

    assert (item["pipeline"], item["trigger"], item["sensor"], item["every"]) == (
        "etl",
        "landed",
        "files",
        "10s",
    )
    assert item["cursor"] is item["last_tick"] is None


def test_dry_tick_tells_what_would_be(demo: Site) -> None:
    answer = demo.client.post(f"{ONE}/dry-tick", json={})

    found = answer.get_json()
    (event,) = found["events"]
    assert (found["new"], found["known"], found["error"], event["state"]) == (1, 0, None, "new")
    assert event["matches"][0]["outcome"] == "ran"
    assert event["matches"][0]["variables"] == {"path": "a.csv"}
    assert demo.client.get("/api/v1/events").get_json()["items"] == []


def test_reset_wants_a_choice(demo: Site) -> None:
    refused = demo.client.post(f"{ONE}/reset", json={})
    done = demo.client.post(f"{ONE}/reset", json={"existing": "ignore"})

    assert refused.status_code == 422
    assert done.get_json()["cursor"] == {"cursor": None, "existing": "ignore"}


def test_pause_and_resume(demo: Site) -> None:
    paused = demo.client.post(f"{ONE}/pause", json={}).get_json()["paused"]
    resumed = demo.client.post(f"{ONE}/resume", json={}).get_json()["paused"]

    assert (paused, resumed) == (True, False)


@pytest.mark.parametrize(
    ("path", "status"), [("etl/nightly", 409), ("etl/nothing", 404), ("nowhere/landed", 404)]
)
def test_what_is_no_sensor_is_said_to_be_none(demo: Site, path: str, status: int) -> None:
    assert demo.client.get(f"/api/v1/sensors/{path}").status_code == status


def test_commands(root: Path) -> None:
    """One after the other: each is a process of its own."""

    def millrace(*arguments: str) -> Any:
        return json.loads(run_millrace("sensors", *arguments, "--json", cwd=root).stdout)

    dry = run_millrace("sensors", "tick", "landed", "--dry-run", cwd=root).stdout
    ticked = millrace("tick", "etl/landed")
    reset = millrace("reset", "landed", "--existing", "trigger")
    paused = millrace("pause", "landed")
    again = run_millrace("sensors", "tick", "landed", cwd=root).stdout
    shown = millrace("show", "landed")

    assert "etl/landed ran with {'path': 'a.csv'}" in dry
    assert "1 new, 0 baseline, 0 known; nothing was written" in dry
    assert ticked["new"] == 1
    assert reset == {"sensor": "etl/landed", "existing": "trigger"}
    assert paused["paused"] is True
    assert again == "1 seen, 0 new, 1 known: all 1 are known\n"
    assert [tick["new"] for tick in shown["ticks"]] == [0, 1]


def test_tick_that_fails_says_why(root: Path) -> None:
    (root / "inbox" / "a.csv").unlink()
    (root / "inbox").rmdir()

    done = run_millrace("sensors", "tick", "landed", "--dry-run", cwd=root)

    assert done.returncode == 1
    assert "inbox does not exist; create it" in done.stderr
