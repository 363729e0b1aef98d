"""Three engines on one Postgres, killed at random: every due tick of their schedules is recorded once."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import ProgrammingError

from service.store import events, runs, ticks
from service.store.database import Database
from service.store.values import Outcome
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import MILLRACE, clean_environment
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

ENGINES = 3
KILLS = 10
SCHEDULES = {f"s{place}": 1 + place % 2 for place in range(6)}  # how many seconds apart
BUSY_SECONDS = 6.0

NOTHING = BlockFile("nothing", "@custom\ndef nothing(*args, **kwargs):\n    pass\n")


class Engines:
    """Engine processes of one project and store, each in a place of its own."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root
        self._environ = clean_environment({"MILLRACE_DATABASE_URL": url, "MILLRACE_SLOTS": "1"})
        self._running: list[subprocess.Popen[bytes]] = []
        self._log = (root / "engines.log").open("ab")

    def start(self) -> None:
        arguments = [*MILLRACE, "engine", "--project", str(self._root)]
        self._running.append(
            subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=self._environ,
                cwd=self._root,
            )
        )

    def kill_one(self, dice: random.Random) -> None:
        victim = self._running.pop(dice.randrange(len(self._running)))
        victim.kill()
        victim.wait()

    def kill_all(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = write_project(tmp_path / "demo")
    declared = [
        {"name": name, "type": "schedule", "every": f"{seconds}s", "catch_up": {"all": 5000}}
        for name, seconds in SCHEDULES.items()
    ]
    write_pipeline(root, "p", [NOTHING], triggers=declared)
    return root


@pytest.fixture
def database(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(postgres_url, home=tmp_path)
    yield database
    database.close()


def moments(database: Database, name: str) -> list[ticks.Tick]:
    with database.read() as connection:
        return ticks.listing(connection, "demo", "p", name, limit=10_000)[::-1]


def test_every_due_tick_is_recorded_once_under_kills(
    project: Path, database: Database, postgres_url: str
) -> None:
    dice = random.Random(4)
    engines = Engines(project, postgres_url)
    try:
        for _ in range(ENGINES):
            engines.start()
        wait_until(lambda: _ticked(database), seconds=30, what="the first ticks")
        for _ in range(KILLS):
            time.sleep(dice.uniform(0, 2 * BUSY_SECONDS / KILLS))
            engines.kill_one(dice)
            engines.start()
        killed_at = time.time()
        wait_until(
            lambda: all(moments(database, name)[-1].tick_at.timestamp() > killed_at for name in SCHEDULES),
            seconds=30,
            what="ticks after the last kill",
        )
    finally:
        engines.kill_all()

    recorded = {name: moments(database, name) for name in SCHEDULES}
    for name, seconds in SCHEDULES.items():
        found = [tick.tick_at for tick in recorded[name]]
        count = int((found[-1] - found[0]).total_seconds()) // seconds + 1
        assert found == [found[0] + timedelta(seconds=seconds) * place for place in range(count)]
        assert {tick.outcome for tick in recorded[name]} == {Outcome.RAN}
    with database.read() as connection:
        started = runs.listing(connection, limit=10_000)
        happened = events.listing(connection, project="demo", limit=10_000)
    all_ticks = [tick for of_one in recorded.values() for tick in of_one]
    assert sorted(tick.run_id or "" for tick in all_ticks) == sorted(run.id for run in started)
    assert sorted(tick.event_id or "" for tick in all_ticks) == sorted(event.id for event in happened)


def _ticked(database: Database) -> bool:
    try:
        return all(moments(database, name) for name in SCHEDULES)
    except ProgrammingError:  # no table is there before the first engine has made them
        return False
