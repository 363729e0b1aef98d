"""Engines are killed while they drive a backfill: each slot gets one run all the same."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.acceptance.conftest import StartService
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import Service
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

DAYS = 31
KILLS = 3
BACKFILL = {
    "pipeline": "etl",
    "start": "2024-01-01",
    "end": "2024-01-31",
    "every": "1d",
    "concurrency": 5,
}


def test_every_slot_gets_one_run_whatever_is_killed(
    tmp_path: Path, start_service: StartService, store_environ: dict[str, str]
) -> None:
    project = write_project(tmp_path / "demo")
    write_pipeline(project, "etl", [BlockFile("one", "@custom\ndef one(**_):\n    return 1\n")])
    service = start_service(project, environ=store_environ)
    made = requests.post(f"{service.url}/api/v1/backfills", json=BACKFILL, timeout=10).json()
    dice = random.Random(7)

    for kill in range(1, KILLS + 1):
        wait_until(
            lambda kill=kill: ended(service, made["id"]) >= kill * DAYS // (KILLS + 2),
            seconds=60,
            what=f"enough ends before kill {kill}",
        )
        engine = dice.choice(service.named("engine") or service.descendants())
        with suppress(psutil.NoSuchProcess):
            engine.kill()
    wait_until(
        lambda: backfill(service, made["id"])["state"] == "finished",
        seconds=120,
        what="the end of the backfill",
    )

    assert backfill(service, made["id"])["counts"] == {"succeeded": DAYS}
    runs = requests.get(f"{service.url}/api/v1/runs?limit=200", timeout=10).json()["items"]
    dates = Counter(run["execution_date"] for run in runs)
    assert dates == {f"2024-01-{day:02}T00:00:00Z": 1 for day in range(1, DAYS + 1)}


def ended(service: Service, backfill_id: str) -> int:
    counts = backfill(service, backfill_id)["counts"]
    return sum(number for state, number in counts.items() if state in ("succeeded", "failed"))


def backfill(service: Service, backfill_id: str) -> Any:
    with suppress(requests.RequestException):
        return requests.get(f"{service.url}/api/v1/backfills/{backfill_id}", timeout=10).json()
    return {"state": "unknown", "counts": {}}
