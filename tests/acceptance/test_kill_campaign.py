"""DESIGN 1.4: kill -9 of any process at any moment loses no event, no run and no finished block."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest
import requests

from service.store.database import Database
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

EVENTS = int(os.environ.get("CHAOS_EVENTS", "200"))  # `make chaos` has more
KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
SEND_SECONDS = 120 * max(1, KILLS / 20)
FINISH_SECONDS = 180 * max(1, EVENTS / 200)

NOTE_BEGIN = """
import os, time

def _note(kwargs):
    line = f"{kwargs['run_id']} {kwargs['block_uuid']} {time.time():.6f}\\n"
    descriptor = os.open(kwargs["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
"""

LOADER = (
    NOTE_BEGIN
    + """
import pandas as pd

@data_loader
def load(*args, **kwargs):
    _note(kwargs)
    time.sleep(kwargs["milliseconds"] / 2000)
    return pd.DataFrame({"number": [kwargs["number"]]})
"""
)

TRANSFORMER = (
    NOTE_BEGIN
    + """
@transformer
def double(frame, *args, **kwargs):
    _note(kwargs)
    time.sleep(kwargs["milliseconds"] / 2000)
    return frame.assign(doubled=frame["number"] * 2)
"""
)

EXPORTER = (
    NOTE_BEGIN
    + """
from pipelines.io import Postgres

@data_exporter
def export(frame, *args, **kwargs):
    _note(kwargs)
    with Postgres.from_profile("default") as warehouse:
        warehouse.export(frame, "public", "numbers", if_exists="append")
"""
)

IO_CONFIG = """
default:
  POSTGRES_HOST: "{{ env_var('WAREHOUSE_HOST') }}"
  POSTGRES_DBNAME: "{{ env_var('WAREHOUSE_DB') }}"
  POSTGRES_USER: postgres
"""


def test_random_kills_lose_and_double_nothing(
    tmp_path, start_service, store_environ, postgres_server, request
):
    warehouse = postgres_server.create_database()
    request.addfinalizer(lambda: postgres_server.drop_database(warehouse))
    postgres_server.execute("CREATE TABLE numbers (number bigint, doubled bigint)", warehouse)
    journal = tmp_path / "journal"
    project = _campaign_project(tmp_path / "campaign", journal)
    environ = {
        **store_environ,
        "WAREHOUSE_HOST": postgres_server.socket_dir,
        "WAREHOUSE_DB": warehouse,
        "MILLRACE_SLOTS": "4",
    }
    service = start_service(project, environ=environ)
    url = store_environ.get("MILLRACE_DATABASE_URL") or f"sqlite:///{service.home / 'millrace.db'}"
    database = Database(url, home=service.home)
    watch = FinishedBlocks(database)
    watch.start()

    with ThreadPoolExecutor(4) as senders:
        sent = [senders.submit(_send_until_accepted, service.url, number) for number in range(EVENTS)]
        kills = _kill_at_random(service, watch, random.Random(11))
        event_ids = [future.result() for future in sent]
    states = wait_until(
        lambda: _final_states(watch, EVENTS), seconds=FINISH_SECONDS, what="the end of all runs"
    )
    watch.stop()

    assert kills >= KILLS
    assert len(set(event_ids)) == EVENTS
    assert states == {"succeeded": EVENTS}
    runs_per_event = Counter(event for event, _ in watch.runs())
    assert runs_per_event == Counter(event_ids)
    rows = postgres_server.fetch("SELECT number, doubled FROM numbers ORDER BY number", warehouse)
    assert rows == [(number, 2 * number) for number in range(EVENTS)]
    assert _repeated_after_finish(journal.read_text(), watch.seen_finished) == []
    database.close()


def _campaign_project(root, journal):
    project = write_project(root, files={"io_config.yaml": IO_CONFIG})
    hook = open_webhook(
        variables={"number": "{{ event.data.number }}", "milliseconds": "{{ event.data.milliseconds }}"}
    )
    blocks = [
        BlockFile("load", LOADER, "data_loader"),
        BlockFile("double", TRANSFORMER, "transformer", ["load"]),
        BlockFile("export", EXPORTER, "data_exporter", ["double"]),
    ]
    write_pipeline(project, "campaign", blocks, triggers=[hook], variables={"journal": str(journal)})
    return project


class FinishedBlocks(threading.Thread):
    """Looks all the time at which blocks the store calls finished, and when that was first seen."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._stopping = threading.Event()
        self.seen_finished: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            rows = self._select("SELECT run_id, name FROM block_runs WHERE state = 'succeeded'")
            now = time.time()
            for run_id, name in rows:
                self.seen_finished.setdefault((run_id, name), now)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def states(self) -> Counter[str]:
        return Counter(state for (state,) in self._select("SELECT state FROM runs"))

    def runs(self) -> list[tuple[str, str]]:
        return self._select("SELECT event_id, id FROM runs")

    def _select(self, statement: str) -> list[tuple]:
        with self._database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]


def _send_until_accepted(url: str, number: int) -> str:
    body = {"number": number, "milliseconds": random.Random(number).randint(50, 500)}
    deadline = time.monotonic() + SEND_SECONDS
    while time.monotonic() < deadline:
        with suppress(requests.RequestException):
            answer = requests.post(
                f"{url}/webhooks/campaign/hook",
                json=body,
                headers={"Idempotency-Key": f"number-{number}"},
                timeout=10,
            )
            if answer.status_code in (200, 202):
                return answer.json()["event_id"]
        time.sleep(0.1)
    raise AssertionError(f"event {number} was not accepted within {SEND_SECONDS} s")


def _kill_at_random(service, watch: FinishedBlocks, dice: random.Random) -> int:
    """Kill descendants while runs are running; return how many were killed in the middle of a run."""
    kills = 0
    deadline = time.monotonic() + SEND_SECONDS
    while kills < KILLS and time.monotonic() < deadline:
        time.sleep(dice.uniform(0.3, 1.2))
        victims = service.descendants()
        if not victims or not watch.states()["running"]:
            continue
        with suppress(psutil.NoSuchProcess):
            dice.choice(victims).kill()
            kills += 1
    return kills


def _final_states(watch: FinishedBlocks, runs: int) -> Counter[str] | None:
    states = watch.states()
    is_final = states.keys() <= {"succeeded", "failed", "cancelled"}
    return states if is_final and states.total() == runs else None


def _repeated_after_finish(journal: str, finished: dict[tuple[str, str], float]) -> list[str]:
    begun = [line.split() for line in journal.splitlines()]
    return [
        f"{run_id} {block}"
        for run_id, block, at in begun
        if (run_id, block) in finished and float(at) > finished[run_id, block]
    ]
