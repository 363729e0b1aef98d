"""The taxi example's triggers, in a real service: a signed webhook, and a file that lands."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import requests

from service.store import sensors
from service.store.session import Database
from tests.parts.example import copy_example, trip_source
from tests.parts.service import Service
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

KEY = secrets.token_bytes(24)
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
WAIT_SECONDS = 50


@dataclass(frozen=True)
class Served:
    """The example as a service, and where its trips come from."""

    service: Service
    root: Path
    source: str

    def post(self, body: dict[str, Any], *, key: bytes = KEY) -> requests.Response:
        """Tell the service what the publisher says, signed as Standard Webhooks wants it."""
        raw = json.dumps(body).encode()
        message_id, stamp = f"msg_{secrets.token_hex(8)}", str(int(time.time()))
        signature = hmac.digest(key, f"{message_id}.{stamp}.".encode() + raw, hashlib.sha256)
        return requests.post(
            f"{self.service.url}/webhooks/green_taxi/months_published?wait={WAIT_SECONDS}",
            data=raw,
            headers={
                "Content-Type": "application/json",
                "webhook-id": message_id,
                "webhook-timestamp": stamp,
                "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
            },
            timeout=WAIT_SECONDS + 10,
        )

    def count(self, table: str) -> int:
        with duckdb.connect(str(self.root / "warehouse.duckdb"), read_only=True) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])

    def runs(self, pipeline: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.service.url}/api/v1/runs", params={"pipeline": pipeline}, timeout=10)
        return list(answer.json()["items"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = copy_example("taxi", tmp_path_factory.mktemp("served") / "taxi")
    environ = {"MILLRACE_SECRET_TAXI_WEBHOOK": SECRET, "MILLRACE_SLOTS": "1"}
    with trip_source() as source, Service([root], environ=environ) as service:
        service.wait_ready()
        yield Served(service, root, source)


def test_signed_webhook_loads_the_months_it_names(served: Served) -> None:
    body = {"type": "trips.published", "source": served.source, "months": ["2020-10", "2020-11"]}

    answer = served.post(body)

    assert answer.status_code == 200, answer.text
    run = answer.json()["run"]
    rows = {block["name"]: block["rows"] for block in run["blocks"]}
    assert run["state"] == "succeeded"
    assert rows["load_trips"] == 600
    assert served.count("mage.green_taxi") == rows["clean_green_trips"]


def test_other_news_of_the_publisher_is_filtered(served: Served) -> None:
    answer = served.post({"type": "trips.withdrawn", "source": served.source, "months": ["2020-10"]})

    assert answer.status_code == 202
    assert answer.json()["outcome"] == "filtered"


def test_wrong_signature_is_refused(served: Served) -> None:
    answer = served.post({"type": "trips.published"}, key=b"guessed")

    assert answer.status_code == 401


def test_file_that_lands_is_taken_to_the_warehouse(served: Served) -> None:
    # Not before the sensor has looked for the first time: what is there then is baseline.
    wait_until(lambda: _has_ticked(served), seconds=30, what="the sensor's first tick")
    part = served.root / "landing" / "trips.parquet.part"
    pd.DataFrame({"VendorID": [1, 2], "Trip Distance": [0.5, 7.0]}).to_parquet(part)
    os.rename(part, served.root / "landing" / "trips.parquet")

    run = wait_until(lambda: _finished(served, "lake_to_warehouse"), seconds=60, what="the landed file's run")

    assert run["state"] == "succeeded", run
    assert run["trigger"] == "parquet_landed"
    assert served.count("ny_taxi.staged_trips") == 2


def _finished(served: Served, pipeline: str) -> dict[str, Any] | None:
    states = ("succeeded", "failed", "cancelled")
    return next((run for run in served.runs(pipeline) if run["state"] in states), None)


def _has_ticked(served: Served) -> bool:
    database = Database(f"sqlite:///{served.service.home / 'millrace.db'}", home=served.service.home)
    try:
        with database.read() as connection:
            return bool(sensors.listing(connection, "taxi", "lake_to_warehouse", "parquet_landed"))
    finally:
        database.close()
